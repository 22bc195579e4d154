"""Progress of a launch: a live table on a terminal, elsewhere a bar and a line for each run."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.table import Table
from tqdm import tqdm

from benchmarks.execution.job import Job
from benchmarks.experiment.ranks import is_main
from benchmarks.results.record import Record

_SECONDS, _LOG_SECONDS = 2, 60
"""Least time between two states of the bar, on a terminal and in a log file."""

_STATES = ("kept", "done", "failed", "left")


class Display:
    """Progress of all jobs of a launch, by stream and method, with the time that is left.

    Args:
        jobs: all jobs.
        due: the jobs that run now, with their steps where these are known.
        console: where to print; None takes the standard output.
    """

    def __init__(
        self, jobs: Sequence[Job], due: Sequence[Job], console: Console | None = None
    ) -> None:
        self.console = console or Console()
        self._total = len(jobs)
        self._counts: dict[tuple[str, str], dict[str, int]] = {}
        running = {job.file for job in due}
        for job in jobs:
            state = "left"
            if job.file not in running:
                state = "kept" if job.finished() is not None else "failed"
            self._counts.setdefault(_group(job), dict.fromkeys(_STATES, 0))[state] += 1
        known = [job.steps for job in due if job.steps]
        # a run whose steps are unknown counts as a usual one
        self._usual = sum(known) / len(known) if known else 1.0
        self._steps_left = sum(job.steps or self._usual for job in due)
        self._ended = self._running = 0.0  # steps of runs that ended, and of those that run
        self._earlier = 0  # of these steps, those that earlier processes made
        self._started = time.monotonic()
        self._live = Live(
            console=self.console, get_renderable=self.table, refresh_per_second=2, transient=False
        )
        hidden = self.console.is_terminal or not is_main() or not due
        every = _SECONDS if sys.stderr.isatty() else _LOG_SECONDS
        self._bar = tqdm(
            total=round(self._steps_left),
            desc="steps",
            unit="step",
            mininterval=every,
            maxinterval=max(every, 10),  # tqdm would show the bar at least every 10 s
            disable=hidden or not known,
        )

    def __enter__(self) -> Display:
        self._started = time.monotonic()
        if self.console.is_terminal and is_main():
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.close()
        if self._live.is_started:
            self._live.stop()

    def stepped(self, steps: int) -> None:
        """Count training steps that were made; a number below 0 is of an earlier process."""
        self._running += abs(steps)
        if steps < 0:
            self._earlier -= steps
            self._bar.initial -= steps  # the bar's rate leaves these steps out
        self._move_bar()

    def ended(self, job: Job, record: Record) -> None:
        """Count a run that ended."""
        counts = self._counts[_group(job)]
        counts["left"] -= 1
        counts["done" if record.status == "finished" else "failed"] += 1
        steps = job.steps or self._usual
        self._ended += steps
        self._steps_left -= steps
        self._running = max(0.0, self._running - steps)
        self._move_bar()
        if not self.console.is_terminal:
            self.console.print(f"{job.about}: {record.status}. {self.summary()}", highlight=False)

    def skipped(self, job: Job) -> None:
        """Leave out a run that another process trains."""
        self._counts[_group(job)]["left"] -= 1
        self._steps_left -= job.steps or self._usual

    def _move_bar(self) -> None:
        """Show the steps so far; a run that ended counts whole, also where it failed early."""
        self._bar.update(round(self._ended + self._running) - self._bar.n)

    @property
    def seconds_left(self) -> float | None:
        """An estimate from the steps of this process; None before the first step."""
        steps = self._ended + self._running - self._earlier
        if steps <= 0:
            return None
        left = max(0.0, self._steps_left - self._running)
        return (time.monotonic() - self._started) * left / steps

    def summary(self) -> str:
        """Counts and the time that is left, in one line."""
        sums = {state: sum(c[state] for c in self._counts.values()) for state in _STATES}
        text = f"{sums['kept'] + sums['done']} of {self._total} done"
        if sums["failed"]:
            text += f", {sums['failed']} failed"
        seconds = self.seconds_left
        if sums["left"] and seconds is not None:
            text += f", about {spoken(seconds)} left"
        return text

    def table(self) -> Table:
        """Counts of runs by stream and method."""
        table = Table(title=self.summary(), title_justify="left")
        for name in ("stream", "method"):
            table.add_column(name)
        for state in _STATES:
            table.add_column(state, justify="right")
        for (stream, method), counts in self._counts.items():
            table.add_row(stream, method, *(str(counts[s] or "") for s in _STATES))
        return table


def _group(job: Job) -> tuple[str, str]:
    return job.folder.name, job.config.methods_name


def spoken(seconds: float) -> str:
    """A time to read: ``45 s``, ``12 min``, ``3 h 05 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
