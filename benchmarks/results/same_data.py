"""The data and the weights that a run begins with, and their comparison with a record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.results.older import by_word
from benchmarks.results.record import Record, ReferenceData
from benchmarks.results.splits import same_split


@dataclass(frozen=True)
class RunData:
    """The data and the weights that a run begins with, as its record describes them.

    Attributes:
        stream: the stream's description of itself.
        panel: SHA-256 of each data set of the panel, by its word in records.
        reference: images and texts of the reference data; None if the method uses none.
        tower: SHA-256 of an image tower whose weights are in a local file; None for other towers,
            which their name identifies, and for random weights, which the seed decides.
    """

    stream: Mapping[str, Any]
    panel: Mapping[str, str]
    reference: ReferenceData | None = None
    tower: str | None = None


def other_part(record: Record, data: RunData) -> str | None:
    """Return words on the first part of a finished record that differs; None if none does.

    Args:
        record: a finished record.
        data: what its run would begin with now.
    """
    if not same_split(record, data.stream):
        return "other images under the same names"
    sets = other_sets(record, data.panel)
    if sets:
        return f"other images of the panel's {', '.join(sets)} under the same names"
    if other_reference(record, data.reference):
        return "other reference data under the same names"
    if data.tower is not None and record.initial_tower_sha256 != data.tower:
        return "other weights under the same name"
    return None


def other_sets(record: Record, panel: Mapping[str, str]) -> list[str]:
    """Return the data sets of the panel whose images are not those of a finished record.

    Args:
        record: a finished record.
        panel: SHA-256 of each data set, by its word in records.
    """
    known = by_word(record.panel or {}, record.config)
    return [name for name, sha in panel.items() if name not in known or known[name].sha256 != sha]


def other_reference(record: Record, about: ReferenceData | None) -> bool:
    """Return True if a record's images or texts of reference data differ from those of now.

    Args:
        record: a record; an older one describes no reference data.
        about: the reference data of now.
    """
    return record.reference_data is not None and record.reference_data != about
