"""What is run: a configuration, and where its record goes; the same for every command."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.config import Config
from benchmarks.record import Record, Selection
from benchmarks.record_files import RefusedRecordError, read_record, write_record


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


def execute(task: Task, tick: Callable[[], None] | None = None, jobs: int = 1) -> Record:
    """Run a task here and now; nothing is written but what its loggers write."""
    from benchmarks.engine import run

    return run(task.config, tick, task.folder / task.config.label, task.selection, jobs)


def settle(task: Task, found: Record | BaseException, jobs: int = 1) -> Record:
    """Write what came of a task: its record, or that it failed, which is told as well.

    Raises:
        OSError: when the record cannot be written.
    """
    if isinstance(found, BaseException):
        from benchmarks.engine import failed_run

        print(f"\n{task.about} failed:", file=sys.stderr)
        traceback.print_exception(found)
        found = failed_run(task.config, found, task.selection, jobs)
    write_record(task.file, found)
    return found
