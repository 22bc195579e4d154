"""Trainings that run step by step, so that several take turns in one process."""

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

from avalanche_proxyfda._accelerator import synchronize


@dataclass(frozen=True)
class Step:
    """Cost of one iteration.

    Attributes:
        seconds: wall-clock time, in seconds.
        cpu_seconds: CPU time of all threads of the process, in seconds.
    """

    seconds: float
    cpu_seconds: float


def share_memory() -> None:
    """Make all threads share one memory arena, if the C library is glibc.

    With one arena a thread, each training's thread keeps the memory of its largest step: for
    ViT-B/32 at B = 64 another 2 GiB each. Its allocations also differ from those of a process
    with one training.
    """
    most_arenas = -8  # M_ARENA_MAX of malloc.h
    change = getattr(ctypes.CDLL(None), "mallopt", None)
    if change is not None:
        change(most_arenas, 1)


class _Over(BaseException):
    """Raised in a training that is not needed any more, to end it."""


class Stepper(SupervisedPlugin[Any], supports_distributed=True):  # type: ignore[call-arg]
    """Pauses a strategy's training after each iteration, until :meth:`step` is called.

    The stepper must be the last of ``plugins``. Each training runs in its own thread, one
    training at a time. A step begins at this plugin's place in one iteration and ends at the
    same place in the next. So a step includes Avalanche's whole loop: loading, all callbacks
    of all plugins, metrics and, in the last iteration of an epoch, the end of the epoch. The
    device is synchronised at both ends of a step.

    Args:
        device: device of the training.
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
        """Start the thread of ``train``, which waits for the first :meth:`step`."""

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
        """Run one iteration; the first step includes everything before the first iteration.

        Raises:
            RuntimeError: if the training has no step left.
            Exception: any exception of the training.
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
        """End the training after its present step; further calls do nothing."""
        self._over = True
        self._go.release()
        if self._thread is not None:
            self._thread.join()

    def after_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        """Record the time of the step, and wait for the next :meth:`step`."""
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
        synchronize(self.device)  # else only the launch of kernels is timed


def take_turns(
    steppers: Mapping[str, Stepper], rounds: int, seed: int, about: str = "turns"
) -> dict[str, list[Step]]:
    """Run rounds; in each round, every training makes one step, in a random order.

    Args:
        steppers: started steppers by name.
        rounds: number of rounds.
        seed: seed of the orders.
        about: label of the progress bar.

    Returns:
        The steps of each training by name, in the order of rounds.
    """
    source = random.Random(seed)
    steps: dict[str, list[Step]] = {name: [] for name in steppers}
    with tqdm(total=rounds * len(steppers), unit="step", mininterval=2, desc=about) as bar:
        for _ in range(rounds):
            for name in source.sample(list(steppers), len(steppers)):
                steps[name].append(steppers[name].step())
                bar.update()
    return steps
