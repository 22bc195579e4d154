"""Writes the records of jobs, whatever came of the runs."""

from __future__ import annotations

import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from avalanche_proxyfda._files import remove_all_leftovers, remove_leftovers
from avalanche_proxyfda.checkpoint import clean
from benchmarks.execution.failure import reason_of
from benchmarks.execution.job import Job
from benchmarks.experiment.record import failed_record
from benchmarks.results.files import RefusedRecordError, write_record
from benchmarks.results.record import Record


class Settler:
    """Writes each job's record; a write that fails stops nothing and is tried again at the end.

    Args:
        parallel: runs at a time, which the record of a failed run keeps.

    Attributes:
        records: the records so far, by file.
    """

    def __init__(self, parallel: int = 1) -> None:
        self.parallel = parallel
        self.records: dict[Path, Record] = {}
        self._unwritten: list[tuple[Job, Record]] = []

    def __call__(self, job: Job, outcome: Record | BaseException) -> Record:
        """Write the record of a job; an error is printed and becomes the record of a failed run.

        A finished record of an earlier time stays when the run fails this time.
        """
        if isinstance(outcome, BaseException):
            print(f"\n{job.about} failed:", file=sys.stderr)
            print(getattr(outcome, "trace", "") or reason_of(outcome), file=sys.stderr)
            reason = reason_of(outcome)
            outcome = failed_record(job.config, reason, job.selection, self.parallel)
        self.records[job.file] = outcome
        try:
            if outcome.status == "failed" and job.finished() is not None:
                print(f"{job.file} is of an earlier run that finished, and stays.", file=sys.stderr)
            else:
                set_refused_aside(job)
                write_record(job.file, outcome)
                _tidy(job, outcome)
        except OSError as error:
            print(f"\n{job.file} cannot be written now: {error}", file=sys.stderr)
            self._unwritten.append((job, outcome))
        return outcome

    def finish(self) -> None:
        """Write the records that could not be written before, each one that can be.

        Raises:
            OSError: the first error, when a record still cannot be written.
        """
        waiting, self._unwritten = self._unwritten, []
        first: OSError | None = None
        for job, record in waiting:
            try:
                write_record(job.file, record)
                _tidy(job, record)
            except OSError as error:
                first = first or error
                self._unwritten.append((job, record))
        if first is not None:
            raise first


def _tidy(job: Job, record: Record) -> None:
    """Delete the checkpoint of a finished run, and half-written files of killed processes.

    The checkpoint of a failed run stays: the run may resume.
    """
    remove_leftovers(job.file)
    remove_all_leftovers(job.own_folder)
    if record.status == "finished":
        clean(job.checkpoint)
        with suppress(OSError):  # loggers may have written there too
            job.own_folder.rmdir()


def widen_selection(job: Job) -> None:
    """Write the record of a finished run with the job's selection, if that has more settings.

    The run may have been the only setting of an earlier command. Nothing else of the record
    changes, and the file is replaced in one step.

    Raises:
        OSError: when the record cannot be written.
    """
    record = job.finished()
    if record is not None and job.selection.settings > record.selection.settings:
        write_record(job.file, replace(record, selection=job.selection))


def set_refused_aside(job: Job) -> None:
    """Rename a file that is no record of this run, so that the run's own record can be written."""
    try:
        job.record()
    except RefusedRecordError:
        names = (job.file.with_name(f"{job.file.name}.refused{k or ''}") for k in range(10**6))
        job.file.replace(next(name for name in names if not name.exists()))
