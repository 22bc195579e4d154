"""Steps of jobs, counted before the first of them runs."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from avalanche_proxyfda.streams.files.left_out import LeftOutWarning
from benchmarks.config import Config, plain
from benchmarks.execution.job import Job
from benchmarks.experiment.prepare import check_batches, planned_steps, prepare
from benchmarks.results.identity import canonical
from benchmarks.streams.stream import Stream

_PARTS = ("stream", "backbone", "head", "train", "panel", "where")


def checked_steps(jobs: Sequence[Job]) -> tuple[list[Job], dict[str, Any]]:
    """Jobs with their steps and images, and the summary of the first stream.

    Everything that a run needs is built once, so that a mistake shows now.

    Raises:
        FileNotFoundError, ImportError, ConnectionError, ValueError: as
            :func:`benchmarks.experiment.prepare.prepare`.
    """
    streams: dict[bytes, Stream] = {}
    counted = []
    with printed_notices():
        for job in jobs:
            key = _key(job.config)
            if key not in streams:
                streams[key] = prepare(job.config, only_check=True).stream
            stream = streams[key]
            check_batches(job.config, stream)
            steps = planned_steps(job.config, stream)
            counted.append(replace(job, steps=steps, images=stream.summary))
    return counted, next(iter(streams.values())).summary


def known_steps(jobs: Sequence[Job]) -> list[Job]:
    """Jobs with their steps and images; 0 and None for a job that cannot be built.

    Such a job fails when it runs.
    """
    known: dict[bytes, tuple[int, Mapping[str, Any] | None]] = {}
    with printed_notices():
        for job in jobs:
            key = _key(job.config)
            if key not in known:
                known[key] = _steps_and_images(job.config)
    return [
        replace(job, steps=steps, images=images)
        for job in jobs
        for steps, images in (known[_key(job.config)],)
    ]


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


def _steps_and_images(config: Config) -> tuple[int, Mapping[str, Any] | None]:
    try:
        stream = prepare(config, only_check=True).stream
        return planned_steps(config, stream), stream.summary
    except Exception:  # any error: the run raises it again, and its record holds it
        return 0, None


def _key(config: Config) -> bytes:
    content = plain(config)
    return canonical([content[part] for part in _PARTS])
