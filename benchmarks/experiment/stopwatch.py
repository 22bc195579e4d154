"""Durations of steps, without a wait of the host for the device."""

from __future__ import annotations

import time
from collections import deque
from typing import Any

import torch

from avalanche_proxyfda._accelerator import has_events, recorded_event, synchronize


class Stopwatch:
    """Measures steps by events on a device that has events, and else by the host's clock.

    An accelerator works on a step after the host has moved on. An event marks a place in the
    device's work, so two events give the duration of a step, and the host reads it when the
    step is over. On an accelerator without events, the host waits at both ends of a step.
    """

    def __init__(self) -> None:
        self._seconds: list[float] = []
        self._unread: deque[tuple[Any, Any]] = deque()
        self._started: Any = None

    def start(self, device: torch.device) -> None:
        """Begin a step."""
        self._started = _now(device)

    def stop(self, device: torch.device) -> None:
        """End the step that began last."""
        self._unread.append((self._started, _now(device)))
        while self._unread and _is_past(self._unread[0][1]):
            self._read()

    def _read(self) -> None:
        start, end = self._unread.popleft()
        host = isinstance(end, float)
        self._seconds.append(end - start if host else start.elapsed_time(end) / 1000)

    @property
    def seconds(self) -> list[float]:
        """Duration of each step in seconds; reading it waits for the last step."""
        if self._unread and not _is_past(self._unread[-1][1]):
            self._unread[-1][1].synchronize()
        while self._unread:
            self._read()
        return self._seconds

    def load(self, durations: list[float]) -> None:
        """Replace all durations by those of an earlier process, in seconds."""
        self._unread.clear()
        self._seconds = list(durations)


def _now(device: torch.device) -> Any:
    if has_events(device):
        return recorded_event(device)
    synchronize(device)
    return time.perf_counter()


def _is_past(end: Any) -> bool:
    return isinstance(end, float) or bool(end.query())
