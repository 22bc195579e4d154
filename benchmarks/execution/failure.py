"""Errors of runs, as text that can travel between processes."""

from __future__ import annotations

import traceback
from collections.abc import Callable

from benchmarks._printing import print_every_character
from benchmarks.execution.job import Job
from benchmarks.results.record import Record

Work = Callable[[Job, int], Record]
"""Makes one job's record; the second argument is the number of runs at a time."""


class RunFailedError(Exception):
    """An error that a run raised, as text.

    Args:
        reason: kind and message.
        trace: the traceback.
    """

    def __init__(self, reason: str, trace: str) -> None:
        super().__init__(reason, trace)
        self.reason, self.trace = reason, trace

    def __str__(self) -> str:
        return self.reason


def attempt(work: Work, job: Job, parallel: int) -> Record:
    """Call ``work``; its errors become :class:`RunFailedError`, which every process can read.

    Args:
        work: makes the record.
        job: the run.
        parallel: runs at a time on the machine.

    Raises:
        RunFailedError: for any exception of the run.
    """
    print_every_character()  # the process may be a worker
    try:
        return work(job, parallel)
    except Exception as error:
        trace = "".join(traceback.format_exception(error))
        raise RunFailedError(reason_of(error), trace) from None


def reason_of(error: BaseException) -> str:
    """Kind and message of an error in one line of plain text."""
    if isinstance(error, RunFailedError):
        return error.reason
    text = f"{type(error).__name__}: {' '.join(str(error).split())}"
    return text.encode("utf-8", "backslashreplace").decode()[:2000]
