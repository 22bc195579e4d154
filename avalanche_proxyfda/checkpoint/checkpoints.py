"""Saves a strategy while it trains, and resumes its training."""

from __future__ import annotations

import logging
import time
import warnings
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from avalanche_proxyfda._checks import check_count
from avalanche_proxyfda._files import check_folder, expanded
from avalanche_proxyfda._protocols import Strategy
from avalanche_proxyfda._random import RandomState
from avalanche_proxyfda.checkpoint.files import CheckpointError, clean
from avalanche_proxyfda.checkpoint.folder import Resumed, read_checkpoint, write_checkpoint
from avalanche_proxyfda.checkpoint.optimizers import optimizer_state
from avalanche_proxyfda.checkpoint.plugins import FirstPlugin, LastPlugin
from avalanche_proxyfda.checkpoint.rest import RestOfEpoch, worker_stream
from avalanche_proxyfda.checkpoint.signals import StopSignals
from avalanche_proxyfda.checkpoint.strategy import check_saveable, holders, rank_state
from avalanche_proxyfda.checkpoint.tree import encode
from avalanche_proxyfda.checkpoint.unsaved import check_modules, modules_of
from avalanche_proxyfda.distributed.plugin import DistributedTraining
from avalanche_proxyfda.distributed.ranks import (
    active,
    computed_by_main,
    gathered_by_main,
    is_main,
    max_over_ranks,
)
from avalanche_proxyfda.features.source import unwrap
from avalanche_proxyfda.strategies.budget import batches_of_epoch

_log = logging.getLogger(__name__)


class Checkpoints:
    """Saves a strategy while it trains, and resumes its training.

    ::

        checkpoints = Checkpoints(strategy, "runs/first", minutes=10)
        resumed = checkpoints.resume()
        for experience in stream[resumed.experiences if resumed else 0 :]:
            strategy.train(experience)
            strategy.eval(test_stream)
            checkpoints.save()

    Training saves after ``every`` steps or ``minutes``, whichever comes first. It also saves
    when the process receives SIGTERM or SIGINT, and then ends after the current step. With
    ``on_signal`` it saves after the last step of an experience too, so that a signal during
    the evaluation loses no training. If a save in training fails, a warning says so and
    training continues; the earlier checkpoint stays. Weights that are NaN or infinite are never
    saved: the save raises an error, also after a signal, and writes no file.

    With worker processes a resume loads the earlier batches of the epoch again, so that random
    views are the same. With ``persistent_workers`` and random views a resume is not exact. A
    resume with another ``num_workers`` warns, since random views depend on the number.

    On several ranks, every rank makes the object and calls its methods. Rank 0 reads and
    writes. The ranks' random streams are equal at the start of an epoch only, so training saves
    there, once ``every`` or ``minutes`` are over. After a signal to any rank, all ranks save at the
    start of the next epoch or in the next call of :meth:`save`, and end together.

    Args:
        strategy: an Avalanche SGD strategy, fully built, before its first ``train``.
        folder: folder of the latest and the previous checkpoint.
        every: optimizer steps between saves in training; None sets no number of steps.
        minutes: minutes between saves in training; None sets no time.
        identity: name of the configuration; a checkpoint with another name is refused.
        on_signal: True saves when the process receives SIGTERM or SIGINT.
        data: hash of each data set, by name; a checkpoint with other hashes is refused. None
            compares nothing.

    Raises:
        TypeError, ValueError: for an option of the wrong type or out of range, for a folder that
            cannot be written, or for several ranks without
            :class:`~avalanche_proxyfda.distributed.DistributedTraining`.
        UnsavedError: for a strategy, plugin or metric whose state is no plain data, such as
            Replay; also at each training, for later plugins, and at each save.

    Example:
        >>> import tempfile
        >>> import torch
        >>> from avalanche.training import Naive
        >>> from avalanche_proxyfda import Checkpoints
        >>> model = torch.nn.Linear(4, 2)
        >>> strategy = Naive(model=model, optimizer=torch.optim.AdamW(model.parameters()))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     checkpoints = Checkpoints(strategy, folder, minutes=10)
        ...     print(checkpoints.resume(), checkpoints.save().name)  # nothing to resume yet
        None checkpoint.safetensors
    """

    def __init__(
        self,
        strategy: Strategy,
        folder: Path | str,
        every: int | None = None,
        minutes: float | None = 10.0,
        identity: str = "",
        on_signal: bool = True,
        data: Mapping[str, str] | None = None,
    ) -> None:
        spread = bool(strategy.plugins) and isinstance(strategy.plugins[0], DistributedTraining)
        if active() and not spread:
            raise ValueError(
                "the ranks of a group have different random streams and gradients: put "
                "DistributedTraining() first in plugins to save checkpoints"
            )
        if every is not None:
            check_count("every", every, 1)
        if minutes is not None and not minutes > 0:
            raise ValueError(f"minutes={minutes} must be positive, or None")
        self._strategy = weakref.ref(strategy)  # it holds this object, see FirstPlugin
        self.folder, self.identity = expanded(folder), identity
        if is_main():
            check_folder("folder", self.folder)
        self.every, self.minutes, self.on_signal = every, minutes, on_signal
        self.data = data
        self._extra: Any = None
        self._place: dict[str, Any] = {}  # random states at the start of this epoch
        self._unfinished: dict[str, Any] | None = None  # a state from inside an experience
        self._workers: int | None = None  # processes that load, in the latest experience
        self._resumed_workers: int | None = None  # the same of the checkpoint, until used
        self._steps, self._batches, self._saved = 0, 0, time.monotonic()  # batches of the epoch
        self._trained: list[int] = []  # numbers of the experiences, in the order of training
        self._has_resumed = False  # until the next experience begins
        self._signals = StopSignals(strategy)
        check_saveable(strategy)
        self._modules = modules_of(holders(strategy))  # those that the script makes again
        strategy.plugins.insert(int(spread), FirstPlugin(self))
        strategy.plugins.append(LastPlugin(self))  # after the clock, which counts the step

    @property
    def strategy(self) -> Strategy:
        """The strategy, which the caller keeps alive."""
        strategy = self._strategy()
        if strategy is None:
            raise ReferenceError("the strategy of these checkpoints is gone: keep it while in use")
        return strategy

    # ---- for the caller -----------------------------------------------------------------

    @property
    def extra(self) -> Any:
        """The caller's plain data and tensors, or a function that returns them at each save."""
        return self._extra

    @extra.setter
    def extra(self, value: Any) -> None:
        """Set the data; a function's are checked at each save.

        Raises:
            UnsavedError: for data that a checkpoint cannot hold.
        """
        if not callable(value):
            encode(value, {}, "checkpoints.extra")
        self._extra = value

    def resume(self) -> Resumed | None:
        """Load the latest checkpoint.

        Returns:
            The point where training resumes; None if the folder has no checkpoint.

        Raises:
            CheckpointError: see :func:`load`; also for a checkpoint of other data, or of a plugin
                with other arguments. Training then raises the error if a checkpoint from inside an
                experience is followed by another experience.
        """
        resumed, state = read_checkpoint(self.strategy, self.folder, self.identity, self.data)
        if resumed is None:
            return None
        self.extra = resumed.extra
        self._unfinished = state if resumed.inside else None
        self._workers = self._resumed_workers = state.get("workers")
        self._trained, self._has_resumed = list(state.get("trained", ())), True
        return resumed

    def save(self) -> Path:
        """Save between two experiences; see :func:`save`.

        On several ranks the process ends after the save, if a rank has received a signal.
        """
        path = computed_by_main(lambda: self._write(None))
        self._end_save()
        return path

    def save_if_possible(self) -> Path | None:
        """Save between two experiences; warn and return None if the file cannot be written.

        The earlier checkpoints then stay. On several ranks the process ends afterwards, if a rank
        has received a signal.
        """
        path = computed_by_main(lambda: self._written_or_warned(None))
        self._end_save()
        return path

    def _end_save(self) -> None:
        """Begin the time to the next save; end all ranks if a signal came to one."""
        self._steps, self._saved = 0, time.monotonic()
        if active():
            (number,) = max_over_ranks([self._signals.number])
            self._signals.restore()
            if number:
                self._signals.leave(number)

    def _written_or_warned(self, inside: Any, ranks: Sequence[dict[int, Any]] = ()) -> Path | None:
        try:
            return self._write(inside, ranks)
        except OSError as error:
            warnings.warn(
                f"no checkpoint could be saved, and training continues without it: {error}",
                stacklevel=2,
            )
            return None

    def _write(self, inside: Any, ranks: Sequence[dict[int, Any]] = ()) -> Path:
        check_modules(holders(self.strategy), self._modules)
        extra = self.extra() if callable(self.extra) else self.extra
        about = (extra, self.identity, inside, self._workers, self.data, ranks, self._trained)
        return write_checkpoint(self.strategy, self.folder, *about)

    def clear(self) -> None:
        """Delete the checkpoints, after the last experience."""
        self._signals.restore()
        if is_main():
            clean(self.folder)

    # ---- in training -------------------------------------------------------------------

    def begin_training(self, strategy: Strategy) -> None:
        """Check the plugins; install the signal handlers, if this is the main thread.

        Raises:
            ValueError: for another strategy than that of the checkpoints, such as a copy of it.
            CheckpointError: if the optimizer of the first training holds a tensor that is no
                parameter of the model.
        """
        if strategy is not self._strategy():
            raise ValueError(
                "this strategy was copied from one with Checkpoints, which save the original: take "
                "the first and the last plugin of the copy out, and build Checkpoints for the copy"
            )
        self.begin_evaluation(strategy)
        check_saveable(strategy)
        if not active():
            self._signals.reset()  # ranks keep a request until they all leave
        if self.on_signal:
            self._signals.install()

    def begin_evaluation(self, strategy: Strategy) -> None:
        """Let Avalanche note the optimizer's parameters, before an evaluation grows a head.

        Raises:
            CheckpointError: if the optimizer holds a tensor that is no parameter of the model.
        """
        if strategy is self._strategy() and strategy.optimized_param_id is None:
            optimizer_state(strategy.optimizer, unwrap(strategy.model), None)  # raises
            strategy.make_optimizer(reset_optimizer_state=True)

    def end_training(self) -> None:
        """Restore the signal handlers; end the process if a signal came.

        On several ranks the handlers stay until the next save, where all ranks end together.
        """
        if active():
            self._signals.keep()
            return
        self._signals.restore()
        if self._signals.requested:
            self._signals.leave()

    def begin_experience(self, workers: int) -> None:
        """Compare the number of worker processes; skip the epochs that are done."""
        before, self._resumed_workers = self._resumed_workers, None
        keyed = getattr(self.strategy.dataloader, "keyed", False)
        if before not in (None, workers) and not keyed:
            warnings.warn(
                f"the checkpoint comes from a training with num_workers={before}, and "
                f"num_workers={workers} now: random views of the images will differ from those "
                f"of an unbroken training; pass num_workers={before} for the same views",
                stacklevel=2,
            )
        self._workers = workers
        self._check_experience()
        if self._unfinished is None:
            return
        inside, strategy = self._unfinished["inside"], self.strategy
        if inside["epochs"] != strategy.train_epochs:
            raise CheckpointError(
                f"the checkpoint was saved in an experience of {inside['epochs']} epochs, but "
                f"train_epochs={strategy.train_epochs} now: build the strategy as before"
            )
        strategy.train_epochs -= inside["epoch"]

    def _check_experience(self) -> None:
        """Compare the first experience after a resume with those of the checkpoint."""
        resumed, self._has_resumed = self._has_resumed, False
        experience = self.strategy.experience
        number = getattr(experience, "current_experience", None)
        if number is None or hasattr(experience, "origin_experience"):
            return  # parts of an online experience have numbers that repeat
        loop = "loop over train_stream[resumed.experiences:], where resumed = checkpoints.resume()"
        if resumed and self._unfinished is not None:
            if self._trained and number != self._trained[-1]:
                raise CheckpointError(
                    f"the checkpoint was saved in experience {self._trained[-1]}, and training "
                    f"begins experience {number}: {loop}"
                )
            return  # the list has the experience already
        if resumed and number in self._trained:
            warnings.warn(
                f"the checkpoint was saved after experience {number}, and training begins it "
                f"again: {loop}",
                stacklevel=2,
            )
        self._trained.append(int(number))

    def begin_epoch_first(self) -> None:
        """Set the clock to the saved epoch, before other plugins read it."""
        if self._unfinished is not None:
            inside, strategy = self._unfinished["inside"], self.strategy
            strategy.train_epochs = inside["epochs"]  # the loop over epochs has its range already
            strategy.clock.train_exp_epochs = inside["epoch"]

    def begin_epoch_last(self) -> None:
        """Note the random states of the epoch's start, or skip to the saved batch."""
        strategy = self.strategy
        self._batches = batches_of_epoch(strategy, strategy.dataloader)
        if self._unfinished is None:
            self._place = {
                "random": RandomState.capture(strategy.device).state_dict(),
                "workers": worker_stream(strategy.dataloader),
            }
            if active():
                self._save_with_ranks()
            return
        state, self._unfinished = self._unfinished, None
        self._place = state["inside"]["place"]
        strategy.dataloader = RestOfEpoch(strategy, strategy.dataloader, state)

    def end_step(self) -> None:
        """Save if a save is due or a signal came; end the process after a signal."""
        if getattr(self.strategy, "pending_micro_batches", 0):
            return  # a checkpoint holds no accumulated gradients
        self._steps += 1
        if active():
            return  # the ranks differ until the end of the epoch
        due = self._is_due() or (self.on_signal and self._is_last())
        if not due and not self._signals.requested:
            return
        self._save_inside()
        if self._signals.requested:
            self._signals.leave()

    def _is_due(self) -> bool:
        """True if ``every`` steps or ``minutes`` have passed since the last save."""
        if self.every is not None and self._steps >= self.every:
            return True
        seconds = time.monotonic() - self._saved
        return self.minutes is not None and seconds >= 60 * self.minutes

    def _is_last(self) -> bool:
        """True after the last step of an experience; a signal in the evaluation saves nothing."""
        clock = self.strategy.clock
        last_epoch = clock.train_exp_epochs == self.strategy.train_epochs - 1
        return last_epoch and clock.train_epoch_iterations == self._batches

    def _save_with_ranks(self) -> None:
        """Save at the start of an epoch, if rank 0 says so or a signal came; then end all ranks.

        The first epoch follows a save of the caller, so it begins with a save after a signal only.
        """
        first = self.strategy.clock.train_exp_epochs == 0
        asked = int(is_main() and not first and self._is_due())
        due, number = max_over_ranks([asked, self._signals.number])
        if due or number:
            ranks = gathered_by_main(rank_state(self.strategy))
            # torchrun stops every rank when one has ended, so all wait for the file
            computed_by_main(lambda: self._save_inside(ranks))
        if number:
            self._signals.leave(number)

    def _save_inside(self, ranks: Sequence[dict[int, Any]] = ()) -> None:
        strategy, clock = self.strategy, self.strategy.clock
        inside = {
            "epochs": strategy.train_epochs,
            "epoch": clock.train_exp_epochs,
            "batches": clock.train_epoch_iterations,
            "place": self._place,
        }
        self._steps, self._saved = 0, time.monotonic()
        path = self._written_or_warned(inside, ranks)
        if path is not None:
            _log.info("saved %s after %d steps", path, clock.train_iterations)
