"""A check that images are those of a record's run."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.experiment.prepare import Prepared
from benchmarks.reproduce.here import reference_places
from benchmarks.results.record import Record
from benchmarks.results.same_data import other_reference, other_sets
from benchmarks.results.splits import same_split


def check_images(prepared: Prepared, record: Record) -> None:
    """Refuse images that are not those of the run.

    Raises:
        ValueError: if the SHA-256 of the stream's splits, of a panel set or of the reference data
            differs from the record's.
    """
    if not same_split(record, prepared.stream.summary):
        raise ValueError(_other("stream", prepared.stream.names))
    others = other_sets(record, {data.images.name: data.sha256 for data in prepared.panel})
    if others:
        raise ValueError(_other("panel", others))
    there = None if prepared.reference is None else prepared.reference.about
    if other_reference(record, there):
        raise ValueError(_other("reference data", reference_places(record.config)))


def _other(part: str, names: Sequence[str]) -> str:
    return (
        f"{' or '.join(names)}: its images here are not those of the run's {part} (SHA-256 "
        "differs): restore them, or say with --data or --place where they are"
    )
