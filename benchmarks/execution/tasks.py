"""What is run: a configuration, and where its record goes; the same for every command."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.config import Config
from benchmarks.results.files import (
    RefusedRecordError,
    read_record,
    write_record,
)
from benchmarks.results.record import (
    Record,
    Selection,
)


@dataclass(frozen=True)
class Task:
    """One run to be made.

    Attributes:
        config: what to run.
        folder: of the record, and of what loggers write.
        selection: how its setting is chosen.
        steps: training steps that it takes, for progress; 0 if that is not known.
    """

    config: Config
    folder: Path
    selection: Selection = Selection()  # noqa: RUF009 (frozen)
    steps: int = 0

    @property
    def file(self) -> Path:
        """Of its record."""
        return self.folder / f"{self.config.label}.json"

    @property
    def about(self) -> str:
        """To read."""
        return f"{self.config.about}, seed {self.config.seed}"

    @property
    def checkpoint(self) -> Path:
        """Folder of what lets it go on after it was ended."""
        return self.folder / self.config.label / "checkpoint"

    def found(self) -> Record | None:
        """Its record, if there is one.

        Raises:
            RefusedRecordError: when there is a file that is not this run's record.
        """
        if not self.file.is_file():
            return None
        record = read_record(self.file)
        if record.run_id != self.config.identity:
            raise RefusedRecordError(f"it is the record of another run, {record.label}")
        return record

    def finished(self) -> Record | None:
        """Its record, if it is there, whole, and of a run that finished."""
        try:
            there = self.found()
        except RefusedRecordError:
            return None
        return there if there is not None and there.status == "finished" else None


def execute(task: Task, tick: Callable[[], None] | None = None, jobs: int = 1) -> Record:
    """Run a task here and now, from its checkpoint if it has one; the record is not written."""
    from benchmarks.experiment.run import (
        run,
    )

    own = task.folder / task.config.label
    return run(task.config, tick, own, task.selection, jobs, task.checkpoint)


class RunFailedError(Exception):
    """What a run raised, as text: it can travel between processes, whatever it was.

    Args:
        reason: kind and message.
        trace: the traceback.
    """

    def __init__(self, reason: str, trace: str) -> None:
        super().__init__(reason, trace)
        self.reason, self.trace = reason, trace

    def __str__(self) -> str:
        return self.reason


def tried(work: Callable[[Task, int], Record], task: Task, jobs: int) -> Record:
    """``work``, whose errors become :class:`RunFailedError`."""
    try:
        return work(task, jobs)
    except Exception as error:
        trace = "".join(traceback.format_exception(error))
        raise RunFailedError(reason_of(error), trace) from None


def reason_of(error: BaseException) -> str:
    """Kind and message of an error in one line of plain text."""
    if isinstance(error, RunFailedError):
        return error.reason
    text = f"{type(error).__name__}: {' '.join(str(error).split())}"
    return text.encode("utf-8", "backslashreplace").decode()[:2000]


class Settler:
    """Writes what comes of tasks; a write that fails stops nothing and is tried again at the end.

    Args:
        jobs: runs at a time, for the records of those that fail.
    """

    def __init__(self, jobs: int = 1) -> None:
        self.jobs = jobs
        self.records: dict[Path, Record] = {}
        self._unwritten: list[tuple[Task, Record]] = []

    def __call__(self, task: Task, found: Record | BaseException) -> Record:
        """Write a task's record, or that it failed, which is told as well.

        A finished record that is there already stays when this time failed.
        """
        if isinstance(found, BaseException):
            print(f"\n{task.about} failed:", file=sys.stderr)
            print(getattr(found, "trace", "") or reason_of(found), file=sys.stderr)
            found = self._failed(task, found)
        self.records[task.file] = found
        try:
            if found.status == "failed" and task.finished() is not None:
                print(f"{task.file} is of a time when it finished, and stays.", file=sys.stderr)
            else:
                aside(task)
                write_record(task.file, found)
                self._forget(task, found)
        except OSError as error:
            print(f"\n{task.file} cannot be written now: {error}", file=sys.stderr)
            self._unwritten.append((task, found))
        return found

    @staticmethod
    def _forget(task: Task, record: Record) -> None:
        """Delete the checkpoint of a run that finished; a failed one may yet go on.

        And what processes that were killed while they wrote have left of their files.
        """
        from avalanche_proxyfda.checkpoint.checkpoints import (
            clean,
        )

        own = task.checkpoint.parent
        for folder, name in ((task.folder, task.file.name), (own, "*")):
            for torn in folder.glob(f".{name}-*.tmp"):
                torn.unlink(missing_ok=True)
        if record.status == "finished":
            clean(task.checkpoint)
            with suppress(OSError):  # loggers may have written there too
                own.rmdir()

    def _failed(self, task: Task, error: BaseException) -> Record:
        from benchmarks.experiment.run import (
            failed_run,
        )

        return failed_run(task.config, reason_of(error), task.selection, self.jobs)

    def finish(self) -> None:
        """Write what could not be written before.

        Raises:
            OSError: when it still cannot.
        """
        for task, record in self._unwritten:
            write_record(task.file, record)
            self._forget(task, record)
        self._unwritten.clear()


def aside(task: Task) -> None:
    """Keep a file that is no record of this run, under another name."""
    try:
        task.found()
    except RefusedRecordError:
        names = (task.file.with_name(f"{task.file.name}.refused{k or ''}") for k in range(10**6))
        task.file.replace(next(name for name in names if not name.exists()))
