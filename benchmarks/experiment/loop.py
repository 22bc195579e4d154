"""Avalanche's training loop, with what the host knows of a batch before the batch moves."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

from avalanche.training import Naive
from torch import Tensor

from avalanche_proxyfda import EfficientNaive
from avalanche_proxyfda.models.task_labels import note_tasks
from avalanche_proxyfda.strategies.budget import batches_of_epoch, epochs_of_steps
from benchmarks.experiment.training import StepTimer

if TYPE_CHECKING:
    from avalanche.training.templates import SupervisedTemplate as _Strategy
else:
    _Strategy = object


class _ObservedLoop(_Strategy):
    """Mixin that measures the wait for the loader, and notes the tasks of each batch.

    The wait is the time from the end of a step, or from the start of the epoch's loop, until
    the loader has given the next batch.

    Args:
        timer: gets the waits.
        kwargs: arguments of the strategy.

    Attributes:
        train_steps: optimizer steps of the next experience, see
            :mod:`avalanche_proxyfda.strategies.budget`; None for whole epochs. A number needs
            :class:`ObservedEfficientNaive`.
    """

    train_steps: int | None = None

    def __init__(self, *, timer: StepTimer, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.timer = timer
        self._asked: float | None = None  # when the loop asked for the next batch

    def training_epoch(self, **kwargs: Any) -> None:
        """Train for one epoch."""
        self._asked = time.perf_counter()
        super().training_epoch(**kwargs)
        self._asked = None

    def criterion(self) -> Tensor:
        """Return the criterion's loss of the present batch; a criterion knows the phase.

        Labels are smoothed in training alone.
        """
        self._criterion.train(self.is_training)
        loss: Tensor = super().criterion()
        return loss

    def _unpack_minibatch(self) -> None:
        if self._asked is not None:
            self.timer.loader_seconds += time.perf_counter() - self._asked
            self._asked = None
        on_host = self.mbatch[-1]
        super()._unpack_minibatch()
        if len(self.mbatch) > 2:
            note_tasks(self.mbatch[-1], on_host)

    def _after_training_iteration(self, **kwargs: Any) -> None:
        super()._after_training_iteration(**kwargs)
        self._asked = time.perf_counter()


class ObservedNaive(_ObservedLoop, Naive):
    """Avalanche's ``Naive`` with the mixin."""


class ObservedEfficientNaive(_ObservedLoop, EfficientNaive):
    """:class:`EfficientNaive` with the mixin, and with a number of steps in place of epochs.

    The loop draws no batch beyond the last step. Avalanche's ``stop_training`` takes effect one
    batch later: that batch would be loaded, and would move the random streams of the views.
    """

    def _batches(self) -> Iterator[Any]:
        """Return the batches of one epoch; the last epoch may be partial.

        Raises:
            RuntimeError: if ``train_epochs`` was planned for another loader.
        """
        batches = super()._batches()
        if self.train_steps is None:
            return batches
        loader: Any = self.dataloader
        whole = len(getattr(loader, "whole", loader))
        epochs = epochs_of_steps(self.train_steps, whole, self.accumulate)
        if epochs != self.train_epochs:
            raise RuntimeError(
                f"{self.train_steps} steps are {epochs} epochs of {whole} batches, but "
                f"{self.train_epochs} epochs were planned: the loader is not the planned one"
            )
        count = batches_of_epoch(self, getattr(loader, "whole", loader))
        return batches if count == whole else islice(batches, count)  # a whole epoch is exhausted
