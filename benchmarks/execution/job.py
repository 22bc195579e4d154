"""A job: one run to be made, and where its record goes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmarks.config import Config
from benchmarks.methods.combined import versions_of
from benchmarks.results.files import RefusedRecordError, read_record
from benchmarks.results.record import Record, Selection
from benchmarks.results.same_data import RunData, other_part

GIVEN = Selection()


@dataclass(frozen=True)
class Job:
    """One run to be made.

    Attributes:
        config: configuration of the run.
        folder: folder of the record and of the run's own folder.
        selection: how the run's setting is chosen.
        steps: training steps of the run, for progress; 0 where they are not known.
        data: the data and weights that the run begins with, where they were built; a record of
            others is not this run's.
        variant: keys in which a sweep's matrix changes the recipe for this run, to read.
        source: name of the recipe, with which messages about the configuration begin.
    """

    config: Config
    folder: Path
    selection: Selection = GIVEN
    steps: int = 0
    variant: str = ""
    data: RunData | None = None
    source: str = ""

    @property
    def file(self) -> Path:
        """File of the record."""
        return self.folder / f"{self.config.label}.json"

    @property
    def own_folder(self) -> Path:
        """Folder of what the run writes beside its record: loggers' files, weights."""
        return self.folder / self.config.label

    @property
    def checkpoint(self) -> Path:
        """Folder of the checkpoint from which a killed run resumes."""
        return self.own_folder / "checkpoint"

    @property
    def about(self) -> str:
        """Method, strength, variant and seed, to read."""
        parts = (self.config.about, self.variant, f"seed {self.config.seed}")
        return ", ".join(part for part in parts if part)

    def record(self) -> Record | None:
        """The record of this run; None where there is no file.

        Raises:
            RefusedRecordError: when there is a file that is not this run's record.
        """
        if not self.file.is_file():
            return None
        record = read_record(self.file)
        if record.run_id != self.config.identity:
            raise RefusedRecordError(f"it is the record of another run, {record.label}")
        if self.data is not None and record.status == "finished":
            other = other_part(record, self.data)
            if other is not None:
                raise RefusedRecordError(f"it is the record of {other}")
        return record

    def finished(self) -> Record | None:
        """The record, where it is whole and of a run that finished; else None."""
        try:
            record = self.record()
        except RefusedRecordError:
            return None
        return record if record is not None and record.status == "finished" else None

    def state(self) -> str:
        """``finished``, ``stale``, ``failed``, ``absent``, or ``refused: REASON``.

        A stale record is of a finished run whose method has another version today.
        """
        try:
            record = self.record()
        except RefusedRecordError as error:
            return f"refused: {error}"
        if record is None:
            return "absent"
        now = versions_of(self.config.method, self.config.companions)
        if record.status == "finished" and record.method_versions != now:
            return "stale"
        return record.status


def same_run(first: Job, second: Job) -> str:
    """Says that two jobs are one run, and names the variants of the sweep's matrix."""
    both = f"{{{first.variant}}} and {{{second.variant}}}"
    return f"variants: {both} are the same run of {second.config.method}"
