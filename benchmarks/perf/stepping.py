"""Trainings that go one step at a time, so that several can take turns in one process."""

from __future__ import annotations

import ctypes
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from avalanche.training.plugins import SupervisedPlugin
from tqdm import tqdm


@dataclass(frozen=True)
class Step:
    """What one iteration took.

    Attributes:
        seconds: by the clock on the wall.
        cpu_seconds: of this process, all its threads together.
    """

    seconds: float
    cpu_seconds: float


def share_memory() -> None:
    """Have all threads take memory from one place, where the C library is glibc.

    Else each training's thread would keep for itself what its largest step needed, for ViT-B/32
    at B = 64 another 2 GiB each; and would not meet memory as the only one of a process does.
    """
    most_arenas = -8  # M_ARENA_MAX of malloc.h
    change = getattr(ctypes.CDLL(None), "mallopt", None)
    if change is not None:
        change(most_arenas, 1)


class _Over(BaseException):
    """Ends a training that is not needed any more."""


class Stepper(SupervisedPlugin[Any], supports_distributed=True):  # type: ignore[call-arg]
    """Stops a strategy's training after each iteration, until it is told to make the next.

    Must be the last of ``plugins``. The training runs in a thread of its own, one at a time. A
    step goes from this plugin's place in an iteration to the same place in the next, so it
    holds the whole of Avalanche's loop: loading, every callback of every plugin, metrics and,
    where it falls there, the end of an epoch. The device is waited for at both ends.

    Args:
        device: of the training.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.device = device
        self._go, self._done = threading.Semaphore(0), threading.Semaphore(0)
        self._thread: threading.Thread | None = None
        self._started = self._cpu_started = 0.0
        self._last = Step(0.0, 0.0)
        self._error: BaseException | None = None
        self._over = self._ended = False

    def start(self, train: Callable[[], object]) -> None:
        """Have ``train`` ready; nothing of it is done before the first :meth:`step`."""

        def work() -> None:
            try:
                self._wait()
                train()
            except _Over:
                pass
            except BaseException as error:
                self._error = error
            self._ended = True
            self._done.release()

        self._thread = threading.Thread(target=work, daemon=True)
        self._thread.start()

    def step(self) -> Step:
        """Make one iteration; the first holds all that comes before it.

        Raises:
            RuntimeError: when the training has no step left.
            Exception: what the training raised.
        """
        if not self._ended:
            self._go.release()
            self._done.acquire()
        if self._error is not None:
            raise self._error
        if self._ended:
            raise RuntimeError("the training ended: it has no step left to measure")
        return self._last

    def close(self) -> None:
        """End the training where it stands; safe to repeat."""
        self._over = True
        self._go.release()
        if self._thread is not None:
            self._thread.join()

    def after_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        """Note the time, and wait to be told to go on."""
        self._finish()
        seconds = time.perf_counter() - self._started
        self._last = Step(seconds, time.process_time() - self._cpu_started)
        self._done.release()
        self._wait()

    def _wait(self) -> None:
        self._go.acquire()
        if self._over:
            raise _Over
        self._finish()
        self._started, self._cpu_started = time.perf_counter(), time.process_time()

    def _finish(self) -> None:
        if self.device.type == "cuda":  # else the time to launch kernels would be taken
            torch.cuda.synchronize(self.device)


def take_turns(
    steppers: Mapping[str, Stepper], rounds: int, seed: int, about: str = "turns"
) -> dict[str, list[Step]]:
    """One step of each training a round, in an order that is drawn anew each round.

    Args:
        steppers: by name; started.
        rounds: steps of each.
        seed: of the orders.
        about: what they are made for.

    Returns:
        The steps of each, by round.
    """
    source = random.Random(seed)
    steps: dict[str, list[Step]] = {name: [] for name in steppers}
    with tqdm(total=rounds * len(steppers), unit="step", mininterval=2, desc=about) as bar:
        for _ in range(rounds):
            for name in source.sample(list(steppers), len(steppers)):
                steps[name].append(steppers[name].step())
                bar.update()
    return steps
