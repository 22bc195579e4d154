"""The signature that all executors share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from benchmarks.execution.job import Job
from benchmarks.experiment.run import run
from benchmarks.results.record import Record

Done = Callable[[Job, "Record | BaseException"], object]
"""Called as each job ends, with its record or its error."""
Stepped = Callable[[int], object]
"""Called now and then with the training steps since the last call, or with the number of steps of
an earlier process below 0."""


class Executor(Protocol):
    """Runs jobs."""

    @property
    def parallel(self) -> int:
        """Runs at a time on one machine, which timings depend on."""
        ...

    def run(self, jobs: Sequence[Job], done: Done, stepped: Stepped) -> None:
        """Run every job; one that fails, or whose process dies, does not stop the others."""
        ...


def execute(job: Job, tick: Stepped | None = None, parallel: int = 1) -> Record:
    """Run a job in this process, from its checkpoint where it has one; no record is written.

    Args:
        job: the run.
        tick: called with 1 after each training step; see :func:`~benchmarks.experiment.run.run`.
        parallel: runs at a time on the machine, for the record.
    """
    return run(job.config, tick, job.own_folder, job.selection, parallel, job.checkpoint)
