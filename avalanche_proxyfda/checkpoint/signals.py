"""SIGTERM and SIGINT as requests to save a checkpoint and end the training."""

from __future__ import annotations

import signal
import threading
import time
import weakref
from types import FrameType
from typing import Any

from avalanche_proxyfda._protocols import Strategy
from avalanche_proxyfda.distributed.group import EndOfAllRanks

_PATIENCE = 2.0  # seconds; the SIGINT of Ctrl-C and a parent's SIGTERM count as one request


class AllExit(EndOfAllRanks, SystemExit):
    """SIGTERM came to a rank, and all ranks end together."""


class AllInterrupted(EndOfAllRanks, KeyboardInterrupt):
    """SIGINT came to a rank, and all ranks end together."""


class StopSignals:
    """Turns SIGTERM and SIGINT into a request to stop at the next save.

    A second signal after two seconds ends the process at once. So does a signal that arrives
    outside of ``strategy.train``, except after :meth:`keep`.

    Args:
        strategy: the strategy whose ``train`` the request concerns.
    """

    def __init__(self, strategy: Strategy) -> None:
        self._strategy = weakref.ref(strategy)
        self._number: int | None = None  # the first signal
        self._time = 0.0
        self._kept = False  # after strategy.train a signal is a request too
        self._handlers: dict[int, Any] = {}  # of the process, before the training

    @property
    def number(self) -> int:
        """Number of the signal that came first; 0 without one."""
        return self._number or 0

    @property
    def requested(self) -> bool:
        """True if a signal came."""
        return self._number is not None

    def reset(self) -> None:
        """Drop the request of an earlier training."""
        self._number = None

    def install(self) -> None:
        """Install the handlers, if this is the main thread; safe to repeat."""
        self._kept = False
        if not self._handlers and threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._handlers[number] = signal.signal(number, self._receive)

    def keep(self) -> None:
        """Leave the handlers installed after ``strategy.train``, until :meth:`restore`."""
        self._kept = True

    def restore(self) -> None:
        """Restore the handlers that the process had before."""
        self._kept = False
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers.clear()

    def leave(self, number: int | None = None) -> None:
        """Restore the handlers and end the process as the signal would.

        Args:
            number: the signal for which all ranks end together; None takes the one that came
                first to this process, which ends alone.

        Raises:
            KeyboardInterrupt: for SIGINT.
            SystemExit: for SIGTERM, with status 128 + 15.
            EndOfAllRanks: is a base of either, if ``number`` is given.
        """
        together, own, self._number = bool(number), self._number, None
        number = number or own or 0
        self.restore()
        if number == signal.SIGINT:
            raise AllInterrupted if together else KeyboardInterrupt
        raise (AllExit if together else SystemExit)(128 + number)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        second = self._number is not None and now - self._time > _PATIENCE
        if self._number is None:
            self._number, self._time = number, now
        if second or not (self._kept or self._in_training(frame)):  # or train has raised
            self.leave()

    def _in_training(self, frame: FrameType | None) -> bool:
        while frame is not None:
            if frame.f_code.co_name == "train" and frame.f_locals.get("self") is self._strategy():
                return True
            frame = frame.f_back
        return False
