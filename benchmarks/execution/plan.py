"""Steps of jobs, counted before the first of them runs."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from avalanche_proxyfda.streams.files.left_out import LeftOutWarning
from benchmarks.execution.built import Builder, Built
from benchmarks.execution.job import Job
from benchmarks.experiment.prepare import check_batches, planned_steps


def checked_steps(jobs: Sequence[Job]) -> tuple[list[Job], dict[str, Any]]:
    """Jobs with their steps and data, and the summary of the first stream.

    Everything that a run needs is built once, so that a mistake shows now.

    Raises:
        FileNotFoundError, ImportError, ConnectionError, ValueError: as
            :func:`benchmarks.experiment.prepare.prepare`.
    """
    builder, counted = Builder(), []
    with printed_notices():
        for job in jobs:
            built = builder.build(job.config)
            check_batches(job.config, built.stream)
            counted.append(_counted(job, built))
    assert counted[0].data is not None
    return counted, dict(counted[0].data.stream)


def known_steps(jobs: Sequence[Job]) -> list[Job]:
    """Jobs with their steps and data; 0 and None for a job that cannot be built.

    Such a job fails when it runs.
    """
    builder = Builder()
    with printed_notices():
        return [_known(job, builder) for job in jobs]


@contextmanager
def printed_notices() -> Iterator[None]:
    """Print what the data sets that the block loads leave out, each line once."""
    found: list[str] = []
    try:
        with caught_notices(found):
            yield
    finally:
        print_notices(found)


def print_notices(notices: Sequence[str]) -> None:
    """Print each line of :func:`caught_notices` on the standard error."""
    for text in notices:
        print(text, file=sys.stderr, flush=True)


@contextmanager
def caught_notices(found: list[str]) -> Iterator[None]:
    """Add what the data sets that the block loads leave out to ``found``, each line once."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", LeftOutWarning)
        try:
            yield
        finally:
            notices = [w for w in caught if issubclass(w.category, LeftOutWarning)]
            found += dict.fromkeys(str(notice.message) for notice in notices)
    for other in caught:
        if other not in notices:
            warnings.showwarning(other.message, other.category, other.filename, other.lineno)


def _known(job: Job, builder: Builder) -> Job:
    try:
        return _counted(job, builder.build(job.config))
    except Exception:  # any error: the run raises it again, and its record holds it
        return replace(job, steps=0, data=None)


def _counted(job: Job, built: Built) -> Job:
    return replace(job, steps=planned_steps(job.config, built.stream), data=built.data)
