"""How far a sweep is: a table by stream and method, and the time that is left."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.table import Table

from benchmarks.execution.tasks import (
    Task,
)
from benchmarks.results.record import (
    Record,
)

_STATES = ("kept", "done", "failed", "left")


class Progress:
    """A live table on a terminal; elsewhere a line for each run that ends.

    Args:
        tasks: of the whole sweep.
        states: of each: ``kept`` of an earlier time, ``failed`` then, or ``left`` to be run.
        console: where to; None takes the standard output.
    """

    def __init__(
        self, tasks: Sequence[Task], states: Sequence[str], console: Console | None = None
    ) -> None:
        self.console = console or Console()
        self._total = len(tasks)
        self._counts: dict[tuple[str, str], dict[str, int]] = {}
        for task, state in zip(tasks, states, strict=True):
            counts = self._counts.setdefault(_group(task), dict.fromkeys(_STATES, 0))
            counts[state] += 1
        todo = [t for t, state in zip(tasks, states, strict=True) if state == "left"]
        known = [task.steps for task in todo if task.steps]
        # a run whose steps are unknown counts as a usual one
        self._usual = sum(known) / len(known) if known else 1.0
        self._steps_left = sum(task.steps or self._usual for task in todo)
        self._ended = self._running = 0.0  # steps of runs that ended, and of those that run
        self._started = time.monotonic()
        self._live = Live(
            console=self.console, get_renderable=self.table, refresh_per_second=2, transient=False
        )

    def __enter__(self) -> Progress:
        self._started = time.monotonic()
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        if self.console.is_terminal:
            self._live.stop()

    def stepped(self, steps: int) -> None:
        """Training steps were made."""
        self._running += steps

    def ended(self, task: Task, record: Record) -> None:
        """A run ended."""
        counts = self._counts[_group(task)]
        counts["left"] -= 1
        counts["done" if record.status == "finished" else "failed"] += 1
        steps = task.steps or self._usual
        self._ended += steps
        self._steps_left -= steps
        self._running = max(0.0, self._running - steps)
        if not self.console.is_terminal:
            self.console.print(f"{task.about}: {record.status}. {self.summary()}", highlight=False)

    @property
    def seconds_left(self) -> float | None:
        """An estimate from the steps so far; None before there are any."""
        made = self._ended + self._running
        if not made:
            return None
        left = max(0.0, self._steps_left - self._running)
        return (time.monotonic() - self._started) * left / made

    def summary(self) -> str:
        """One line."""
        sums = {state: sum(c[state] for c in self._counts.values()) for state in _STATES}
        text = f"{sums['kept'] + sums['done']} of {self._total} done"
        if sums["failed"]:
            text += f", {sums['failed']} failed"
        seconds = self.seconds_left
        if sums["left"] and seconds is not None:
            text += f", about {spoken(seconds)} left"
        return text

    def table(self) -> Table:
        """Runs by stream and method."""
        shown = Table(title=self.summary(), title_justify="left")
        for name in ("stream", "method"):
            shown.add_column(name)
        for state in _STATES:
            shown.add_column(state, justify="right")
        for (stream, method), counts in self._counts.items():
            shown.add_row(stream, method, *(str(counts[s] or "") for s in _STATES))
        return shown


def _group(task: Task) -> tuple[str, str]:
    return task.folder.name, task.config.method


def spoken(seconds: float) -> str:
    """A time to read: ``45 s``, ``12 min``, ``3 h 05 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
