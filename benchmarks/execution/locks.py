"""Locks of runs: one process at a time trains a run and writes its files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from avalanche_proxyfda._locks import has_locks, open_lock
from benchmarks.execution.job import Job
from benchmarks.results.record import Record

LOCK = "run.lock"
"""Name of the locked file in a run's own folder; the file goes with the lock."""
_TRIES = 200


class BusyRunError(Exception):
    """Another process trains the run."""


class RunLocks:
    """The locks that one executor holds, each from the start of a run until its record is written.

    Without file locks, as on Windows, every run is free.

    Args:
        jobs: the jobs to run.
    """

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._before = {job.file: _mark(job.file) for job in jobs}
        self._held: dict[Path, int] = {}

    def take(self, job: Job) -> Record | None:
        """Lock a run.

        Returns:
            The record, if another process has finished the run meanwhile; else None: run it.

        Raises:
            BusyRunError: if another process trains the run.
        """
        handle = _locked(job)
        if handle is not None:
            self._held[job.file] = handle
        return job.finished() if _mark(job.file) != self._before[job.file] else None

    def release(self, job: Job) -> None:
        """Let a run go, and delete its own folder if nothing else is in it."""
        handle = self._held.pop(job.file, None)
        self._before[job.file] = _mark(job.file)
        if handle is not None:
            _let_go(job, handle)

    def release_all(self, jobs: Sequence[Job]) -> None:
        """Let all runs go, after an interrupt."""
        for job in jobs:
            self.release(job)


@contextmanager
def idle(job: Job) -> Iterator[bool]:
    """Yield True, with the lock of the run in the block, or False if another process has it."""
    try:
        handle = _locked(job) if job.own_folder.is_dir() else None
    except BusyRunError:
        yield False
        return
    try:
        yield True
    finally:
        if handle is not None:
            _let_go(job, handle)


def _locked(job: Job) -> int | None:
    """Return a handle with the lock; None where nothing can be locked, as on a full disk."""
    if not has_locks():
        return None
    for _ in range(_TRIES):
        try:
            job.own_folder.mkdir(parents=True, exist_ok=True)
            handle = open_lock(job.own_folder / LOCK)
        except (FileNotFoundError, FileExistsError):  # its last holder deletes the folder
            continue
        except OSError:
            return None
        break
    else:
        return None
    if handle is None:
        raise BusyRunError(f"{job.about}: another process trains this run, in {job.own_folder}")
    return handle


def _let_go(job: Job, handle: int) -> None:
    with suppress(OSError):
        (job.own_folder / LOCK).unlink()
    os.close(handle)
    with suppress(OSError):  # checkpoints, weights or loggers' files are there
        job.own_folder.rmdir()


def _mark(file: Path) -> tuple[int, int] | None:
    """Return number and time of change of a file, which a new record has others of."""
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns
