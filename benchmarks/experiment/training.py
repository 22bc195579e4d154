"""Plugins that all methods share in training: learning rates, batches, clipping, the clock."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import psutil
import torch
from avalanche.training.plugins import SupervisedPlugin
from torch import Tensor, nn

from avalanche_proxyfda._protocols import Strategy
from avalanche_proxyfda.data.hard_class import HardClassBatches
from avalanche_proxyfda.distributed.plugin import batch_size
from avalanche_proxyfda.models import TrainedTextHead
from avalanche_proxyfda.strategies.budget import planned_batches
from avalanche_proxyfda.strategies.precision import autocast
from benchmarks.experiment.stopwatch import Stopwatch

_COUNTED = ("loader_seconds", "forwards", "samples", "peak_rss")


class WarmUpCosine(SupervisedPlugin[Any], supports_distributed=True):  # type: ignore[call-arg]
    """Sets the learning rate of every step, and clips gradients.

    The rate rises linearly to its peak and falls by a cosine, anew in each experience. The peak
    of a parameter group is its rate before the first experience, times the experience's factor.

    Args:
        warm_up: share of an experience's steps in which the rate rises.
        clip: largest norm of the gradient; None does not clip it.
        factors: factor of the peaks, by experience; empty for 1 in each.
    """

    def __init__(
        self, warm_up: float = 0.1, clip: float | None = 1.0, factors: Sequence[float] = ()
    ) -> None:
        super().__init__()
        self.warm_up, self.clip, self.factors = warm_up, clip, factors
        self._peaks: list[float] | None = None

    def state_dict(self) -> dict[str, Any]:
        """Return the peak rates."""
        return {"peaks": self._peaks}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load the peak rates."""
        self._peaks = state["peaks"]

    def before_training_exp(self, strategy: Strategy, **kwargs: Any) -> None:
        """Store the peak rates before the first experience."""
        if self._peaks is None:
            self._peaks = [group["lr"] for group in strategy.optimizer.param_groups]

    def before_training_iteration(self, strategy: Strategy, **kwargs: Any) -> None:
        """Set the learning rate of the step."""
        total = planned_batches(strategy)
        done = strategy.clock.train_exp_iterations
        rising = max(1.0, self.warm_up * total)
        decay = 0.5 * (1 + math.cos(math.pi * min(1.0, done / total)))
        factor = self.factors[strategy.clock.train_exp_counter] if self.factors else 1.0
        assert self._peaks is not None
        for group, peak in zip(strategy.optimizer.param_groups, self._peaks, strict=True):
            group["lr"] = factor * peak * min((done + 1) / rising, decay)

    def before_update(self, strategy: Strategy, **kwargs: Any) -> None:
        """Clip the gradient of the model."""
        if self.clip is not None:
            torch.nn.utils.clip_grad_norm_(strategy.model.parameters(), self.clip)


class StepTimer(SupervisedPlugin[Any], supports_distributed=True):  # type: ignore[call-arg]
    """Times each training step, and calls a function after each.

    Args:
        after_step: function to call with 1 after each step, and with the number of steps of an
            earlier process below 0; None calls nothing.

    Attributes:
        loader_seconds: time in which the host waited for the loader, in seconds; the strategy
            adds it.
        forwards: number of the student's forwards in the strategy.
        text_forwards: number of the text tower's forwards for heads that train with it.
        samples: number of training images on all ranks.
        peak_rss: largest memory of the process after a step, in bytes.
    """

    def __init__(self, after_step: Callable[[int], object] | None = None) -> None:
        super().__init__()
        self.loader_seconds = 0.0
        self.forwards = self.samples = self.peak_rss = 0
        self._earlier_texts = 0  # forwards that the heads do not know of
        self._heads: list[TrainedTextHead] = []
        self._after_step = after_step
        self._watch = Stopwatch()
        self._process = psutil.Process()

    @property
    def seconds(self) -> list[float]:
        """Duration of each step, in seconds; reading it waits for the last step."""
        return self._watch.seconds

    @property
    def text_forwards(self) -> int:
        """Forwards of the text tower in training, for heads; reading it waits for the device."""
        return self._earlier_texts + sum(head.forwards for head in self._heads)

    def before_training_exp(self, strategy: Strategy, **kwargs: Any) -> None:
        """Note the heads that encode texts, which count their forwards on the device."""
        modules = strategy.model.modules()
        self._heads = [module for module in modules if isinstance(module, TrainedTextHead)]

    def before_training_iteration(self, strategy: Strategy, **kwargs: Any) -> None:
        """Start the clock."""
        self._watch.start(strategy.device)

    def after_forward(self, strategy: Strategy, **kwargs: Any) -> None:
        """Count a forward and its images."""
        self.forwards += 1
        self.samples += batch_size(strategy)

    def after_training_iteration(self, strategy: Strategy, **kwargs: Any) -> None:
        """Stop the clock, and call the function."""
        self._watch.stop(strategy.device)
        self.peak_rss = max(self.peak_rss, self._process.memory_info().rss)
        if self._after_step is not None:
            self._after_step(1)

    def catch_up(self) -> None:
        """Call the function for the steps of an earlier process."""
        if self._after_step is not None and self.seconds:
            self._after_step(-len(self.seconds))

    def state_dict(self) -> dict[str, Any]:
        """Return the counts."""
        counts = {name: getattr(self, name) for name in _COUNTED}
        return {"seconds": self.seconds, "text_forwards": self.text_forwards, **counts}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load the counts."""
        self._watch.load(state["seconds"])
        for name in _COUNTED:
            setattr(self, name, state[name])
        self._earlier_texts = 0
        self._earlier_texts = state.get("text_forwards", 0) - self.text_forwards


class KeptInEval(SupervisedPlugin[Any], supports_distributed=True):  # type: ignore[call-arg]
    """Keeps modules of the tower in eval mode during training.

    Args:
        all_of_it: True for the whole tower, as for a frozen tower. False for its batch norms
            alone, which then normalise by the statistics of pre-training.
    """

    def __init__(self, all_of_it: bool) -> None:
        super().__init__()
        self.all_of_it = all_of_it

    def before_training_epoch(self, strategy: Strategy, **kwargs: Any) -> None:
        """Set the modules to eval mode, which Avalanche's ``train`` call has ended."""
        tower: Any = strategy.model.tower
        for module in tower.modules():
            if self.all_of_it or isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.training = False


class BalancedBatches(SupervisedPlugin[Any], supports_distributed=True):  # type: ignore[call-arg]
    """Gives balanced batches to methods that do not choose batches of their own.

    The classes of a batch are near in the pre-trained tower's space (``mining="prototypes"``).
    FDA and Proxy-FDA choose the classes of their batches by their own rule. With at most
    ``classes`` classes in an experience, every method gets the same batches.

    Args:
        tower: pre-trained tower; it is copied.
        classes: largest number of classes in a batch.
        samples: images of each class in a batch; None fills the batch.
        seed: seed of the batches.
    """

    def __init__(self, tower: nn.Module, classes: int, samples: int | None, seed: int) -> None:
        super().__init__()
        self.batches = HardClassBatches(classes, samples, seed)
        self._tower = copy.deepcopy(tower).eval().requires_grad_(False)

    def before_training_exp(self, strategy: Strategy, **kwargs: Any) -> None:
        """Replace the strategy's loader."""

        def features(images: Tensor) -> Tensor:  # not called if every batch has every class
            with autocast(getattr(strategy, "precision", "float32"), images.device):
                rows: Tensor = self._tower.to(images.device)(images)
            return rows

        self.batches.install(strategy, features, kwargs)
        self._tower.cpu()  # the tower is not needed before the next experience

    def before_training_epoch(self, strategy: Strategy, **kwargs: Any) -> None:
        """Choose the batches of the epoch."""
        self.batches.start_epoch(strategy)

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: the checkpoint stores the position within an epoch's batches."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load nothing."""
