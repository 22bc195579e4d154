"""Exact resume: a training that is killed goes on as if it had not been.

What is saved is all that decides what comes next: model, optimizer, plugins with their
teachers and generators, metrics, counters, random streams, and the place in the epoch's
batches. Files are safetensors with JSON; nothing in them is ever executed.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from avalanche.training.plugins.strategy_plugin import SupervisedPlugin

from avalanche_proxyfda.distributed.ranks import active
from avalanche_proxyfda.losses.base import check_count
from avalanche_proxyfda.saving.files import (
    LATEST,
    PREVIOUS,
    CheckpointError,
    clean,
    read_latest,
    set_aside,
    write_state,
)
from avalanche_proxyfda.saving.rest import RestOfEpoch, worker_stream
from avalanche_proxyfda.saving.strategy import (
    NotSaved,
    check_fit,
    load_strategy_state,
    strategy_state,
)
from avalanche_proxyfda.saving.streams import random_state
from avalanche_proxyfda.saving.tree import UnsavedError

__all__ = [
    "CheckpointError", "Checkpoints", "Resumed", "UnsavedError", "clean", "is_there", "load",
    "save",
]  # fmt: skip

_PATIENCE = 2.0  # seconds; a terminal's Ctrl-C and a parent's SIGTERM come together
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Resumed:
    """Where a training goes on.

    Attributes:
        experiences: how many have been learnt; the next one to train on is this.
        inside: whether that one has begun already.
        extra: what was saved beside the strategy.
        source: file and counters, to read.
        warning: why a later file was passed over; None if it was not.
    """

    experiences: int
    inside: bool
    extra: Any
    source: str
    warning: str | None


def save(strategy: Any, folder: Path | str, extra: Any = None, identity: str = "") -> Path:
    """Save a strategy between two experiences, after what is evaluated there.

    Args:
        strategy: an Avalanche SGD strategy, not in the middle of ``train``.
        folder: of the checkpoint; the one before is kept beside it.
        extra: plain data and tensors of the caller's own.
        identity: names the configuration; a checkpoint of another is refused.

    Returns:
        The file.

    Raises:
        UnsavedError: when a plugin or a metric has a state that is no plain data.
        OSError: when the file cannot be written; what was there stays.
    """
    return _write(strategy, Path(folder), extra, identity, None)


def load(strategy: Any, folder: Path | str, identity: str = "") -> Resumed | None:
    """Give a newly built strategy the state that :func:`save` wrote; None without a checkpoint.

    A checkpoint from inside an experience is for :meth:`Checkpoints.resume`.

    Raises:
        CheckpointError: for a checkpoint of another configuration or version, or when no file
            is whole.
    """
    return _read(strategy, Path(folder), identity)[0]


def is_there(folder: Path | str | None) -> bool:
    """Whether a folder holds a checkpoint, whole or not."""
    return folder is not None and any((Path(folder) / n).exists() for n in (LATEST, PREVIOUS))


def _write(strategy: Any, folder: Path, extra: Any, identity: str, inside: Any) -> Path:
    state = strategy_state(strategy)
    return write_state(
        folder, {"identity": identity, "inside": inside, "extra": extra, "strategy": state}
    )


def _read(strategy: Any, folder: Path, identity: str) -> tuple[Resumed | None, dict[str, Any]]:
    try:
        state, path, warning = read_latest(folder)
    except FileNotFoundError:
        return None, {}
    if state["identity"] != identity:
        raise CheckpointError(
            f"{path} is of another configuration or version ({state['identity']!r}, not "
            f"{identity!r}): delete it to begin anew"
        )
    check_fit(strategy, state["strategy"]["described"], path)
    if warning is not None:
        warnings.warn(f"{warning}; going on from {path}, which is earlier", stacklevel=3)
        set_aside(folder)
    load_strategy_state(strategy, state["strategy"])
    inside, clock = state["inside"], state["strategy"]["clock"]
    done, where = clock["train_exp_counter"], ""
    if inside is not None:
        where = f", and {clock['train_exp_iterations']} steps of the next"
    source = f"{path.name}: {done} experiences{where}"
    return Resumed(done, inside is not None, state["extra"], source, warning), state


class Checkpoints:
    """Saves a strategy while it trains, and lets it go on where it was.

    ::

        checkpoints = Checkpoints(strategy, "runs/first", minutes=10)
        found = checkpoints.resume()
        for experience in stream[found.experiences if found else 0 :]:
            strategy.train(experience)
            strategy.eval(test_stream)
            checkpoints.save()

    Saves in training after ``every`` steps or ``minutes``, whichever comes first, and when
    SIGTERM or SIGINT asks the process to end, which then ends after the step at hand. A save
    in training that fails is told, and training goes on: the earlier file is still there.

    With worker processes the batches of the epoch so far are loaded again, so that random
    views are what they were; ``persistent_workers`` with random views is not exact.

    Args:
        strategy: an Avalanche SGD strategy, fully built, before its first ``train``.
        folder: of the checkpoint and the one before it.
        every: steps (of the optimizer) between saves in training; None: no such rhythm.
        minutes: between saves in training; None: no such rhythm.
        identity: names the configuration; a checkpoint of another is refused.
        on_signal: save when asked to end.

    Raises:
        TypeError, ValueError: for an option of the wrong type or out of range.
    """

    def __init__(
        self,
        strategy: Any,
        folder: Path | str,
        every: int | None = None,
        minutes: float | None = 10.0,
        identity: str = "",
        on_signal: bool = True,
    ) -> None:
        if active():
            raise ValueError(
                "checkpoints are of a single process: on several ranks their random streams and "
                "places differ, and nothing is saved"
            )
        if every is not None:
            check_count("every", every, 1)
        if minutes is not None and not minutes > 0:
            raise ValueError(f"minutes={minutes} must be positive, or None")
        self.strategy, self.folder, self.identity = strategy, Path(folder), identity
        self.every, self.minutes, self.on_signal = every, minutes, on_signal
        self.extra: Any = None
        """The caller's own plain data and tensors, or a function that gives them at each save."""
        self._place: dict[str, Any] = {}  # where the epoch at hand began
        self._unfinished: dict[str, Any] | None = None  # a state from inside an experience
        self._steps, self._saved = 0, time.monotonic()
        self._asked: int | None = None
        self._asked_at = 0.0
        self._handlers: dict[int, Any] = {}
        strategy.plugins.insert(0, _First(self))
        strategy.plugins.append(_Last(self))  # after the clock: a step is over when it has counted

    # ---- what the caller does ----------------------------------------------------------

    def resume(self) -> Resumed | None:
        """Load the latest checkpoint, if there is one; None if not.

        Raises:
            CheckpointError: see :func:`load`.
        """
        found, state = _read(self.strategy, self.folder, self.identity)
        if found is None:
            return None
        self.extra = found.extra
        self._unfinished = state if found.inside else None
        return found

    def save(self) -> Path:
        """Save between two experiences; see :func:`save`."""
        path = save(self.strategy, self.folder, self._extra(), self.identity)
        self._steps, self._saved = 0, time.monotonic()
        return path

    def clear(self) -> None:
        """Delete the checkpoints: the work is done."""
        clean(self.folder)

    def _extra(self) -> Any:
        return self.extra() if callable(self.extra) else self.extra

    # ---- in training -------------------------------------------------------------------

    def begin_training(self) -> None:
        """Listen to signals, where Python allows that."""
        self._asked = None
        if (
            self.on_signal
            and not self._handlers
            and threading.current_thread() is threading.main_thread()
        ):
            for number in (signal.SIGTERM, signal.SIGINT):
                self._handlers[number] = signal.signal(number, self._ask)

    def end_training(self) -> None:
        """Give the signals back."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers.clear()
        if self._asked is not None:
            self._leave()

    def _ask(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        again = self._asked is not None and now - self._asked_at > _PATIENCE
        if self._asked is None:
            self._asked, self._asked_at = number, now
        if again or not self._in_training(frame):  # asked twice, or after a train that raised
            self._leave()

    def _in_training(self, frame: FrameType | None) -> bool:
        while frame is not None:
            if frame.f_code.co_name == "train" and frame.f_locals.get("self") is self.strategy:
                return True
            frame = frame.f_back
        return False

    def _leave(self) -> None:
        number, self._asked = self._asked, None
        for known, handler in self._handlers.items():
            signal.signal(known, handler)
        self._handlers.clear()
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + int(number or 0))

    def begin_experience(self) -> None:
        """Leave out the epochs that are done."""
        if self._unfinished is None:
            return
        inside, strategy = self._unfinished["inside"], self.strategy
        if inside["epochs"] != strategy.train_epochs:
            raise CheckpointError(
                f"the checkpoint is of an experience of {inside['epochs']} epochs, "
                f"train_epochs={strategy.train_epochs} now"
            )
        strategy.train_epochs -= inside["epoch"]

    def begin_epoch_first(self) -> None:
        """Tell all plugins the right epoch."""
        if self._unfinished is not None:
            inside, strategy = self._unfinished["inside"], self.strategy
            strategy.train_epochs = inside["epochs"]  # its loop has begun and counts no more
            strategy.clock.train_exp_epochs = inside["epoch"]

    def begin_epoch_last(self) -> None:
        """Note where the epoch begins, or go to where it was."""
        strategy = self.strategy
        if self._unfinished is None:
            self._place = {
                "random": random_state(strategy.device),
                "workers": worker_stream(strategy.dataloader),
            }
            return
        state, self._unfinished = self._unfinished, None
        self._place = state["inside"]["place"]
        strategy.dataloader = RestOfEpoch(strategy, strategy.dataloader, state)

    def end_step(self) -> None:
        """Save if it is time, or if the process was asked to end."""
        if getattr(self.strategy, "pending_micro_batches", 0):
            return  # gradients that are not applied are not saved
        self._steps += 1
        due = self.every is not None and self._steps >= self.every
        if self.minutes is not None:
            due = due or time.monotonic() - self._saved >= 60 * self.minutes
        if not due and self._asked is None:
            return
        self._save_inside()
        if self._asked is not None:
            self._leave()

    def _save_inside(self) -> None:
        strategy, clock = self.strategy, self.strategy.clock
        inside = {
            "epochs": strategy.train_epochs,
            "epoch": clock.train_exp_epochs,
            "batches": clock.train_epoch_iterations,
            "place": self._place,
        }
        self._steps, self._saved = 0, time.monotonic()
        try:
            path = _write(strategy, self.folder, self._extra(), self.identity, inside)
        except OSError as error:
            warnings.warn(
                f"no checkpoint could be saved, and training goes on without: {error}",
                stacklevel=2,
            )
        else:
            _log.info("saved %s after %d steps", path, clock.train_iterations)


class _First(SupervisedPlugin[Any], NotSaved, supports_distributed=True):  # type: ignore[call-arg]
    """Comes before all other plugins."""

    def __init__(self, owner: Checkpoints) -> None:
        super().__init__()
        self._owner = owner

    def before_training(self, strategy: Any, **kwargs: Any) -> None:
        self._owner.begin_training()

    def before_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
        self._owner.begin_epoch_first()


class _Last(SupervisedPlugin[Any], NotSaved, supports_distributed=True):  # type: ignore[call-arg]
    """Comes after all other plugins, the clock among them."""

    def __init__(self, owner: Checkpoints) -> None:
        super().__init__()
        self._owner = owner

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        self._owner.begin_experience()

    def before_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
        self._owner.begin_epoch_last()

    def after_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        self._owner.end_step()

    def after_training(self, strategy: Any, **kwargs: Any) -> None:
        self._owner.end_training()
