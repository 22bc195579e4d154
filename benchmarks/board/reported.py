"""The published tables that belong beside a comparison: those of its stream and its backbone.

A published figure is shown, and never used: it is in no rank, mean, difference or drawing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from benchmarks.results.published import PublishedTable
from benchmarks.results.published_parts import (
    AnyMatch,
    Discrepancy,
    ImageNetRMatch,
    Match,
    MtilMatch,
    PublishedRow,
    SequenceMatch,
)
from benchmarks.results.record import Record

_IMAGE_ALONE = {"image": "full", "text": "frozen"}
_BOTH = {"image": "full", "text": "full"}


@dataclass(frozen=True, eq=False)
class Reported:
    """The part of a published table that belongs beside a comparison.

    Attributes:
        table: the table.
        rows: its rows of the stream.
    """

    table: PublishedTable
    rows: tuple[PublishedRow, ...]

    @property
    def methods(self) -> list[str]:
        """The paper's names of the methods that have a figure in the rows."""
        return [
            said for said in self.table.methods if any(row.figures.get(said) for row in self.rows)
        ]

    @property
    def columns(self) -> list[tuple[PublishedRow, str]]:
        """Pairs of row and metric that have a figure."""
        return [
            (row, metric)
            for row in self.rows
            for metric in self.table.metrics
            if any(metric in by_metric for by_metric in row.figures.values())
        ]

    @property
    def discrepancies(self) -> list[Discrepancy]:
        """Discrepancies of figures in the rows."""
        shown = {(row.stream, row.name) for row in self.rows}
        return [each for each in self.table.discrepancies if (each.stream, each.row) in shown]


def reported_beside(
    records: Iterable[Record], tables: Sequence[PublishedTable]
) -> tuple[Reported, ...]:
    """Return what is reported on the stream and the backbone of a comparison.

    The backbone must have one of the names that the table lists, and no other setting. A sequence
    must have the same data sets in the same order, each with its own labels; packs of images
    never match, since they may hold a part of a data set. A choice of few training images never
    matches either. Split ImageNet-R must have the number of experiences, the split and the
    numbers of images of the table; held-out images count as training images.

    Args:
        records: finished records of the comparison, which share stream and backbone.
        tables: published tables.
    """
    first = next(iter(records), None)
    if first is None:
        return ()
    parts = []
    for table in tables:
        names = set() if table.match is None else _streams(first, table.match)
        rows = tuple(row for row in table.rows if row.stream in names)
        if rows:
            parts.append(Reported(table, rows))
    return tuple(parts)


def _streams(record: Record, match: Match) -> set[str]:
    """Return the streams of ``match`` that a run is of."""
    backbone = record.config["backbone"]
    if not _is_backbone(backbone, match.backbones):
        return set()
    return {name for name, pattern in match.streams.items() if _is_of(record, pattern)}


def _is_of(record: Record, pattern: AnyMatch) -> bool:
    """Return True if a run has the stream of a table, and trains the same towers."""
    stream, both = record.config["stream"], isinstance(pattern, MtilMatch)
    towers = record.config["backbone"].get("train", _IMAGE_ALONE)
    if towers != (_BOTH if both else _IMAGE_ALONE):
        return False
    if any(stream.get(key) is not None for key in ("shots", "shots_list")):
        return False
    if isinstance(pattern, MtilMatch):
        keys = ("kind", "order", "splits")
        return all(stream.get(key) == getattr(pattern, key) for key in keys)
    if isinstance(pattern, SequenceMatch):
        return _is_sequence(stream, pattern)
    return _is_imagenet_r(record, pattern)


def _is_backbone(config: dict[str, Any], names: Sequence[str]) -> bool:
    """Return True for a backbone that is named, with no other setting such as weights."""
    others = (value for key, value in config.items() if key not in ("name", "train"))
    return config["name"] in names and not any(others)


def _is_sequence(config: dict[str, Any], pattern: SequenceMatch) -> bool:
    if config["kind"] != pattern.kind or config.get("shared_labels") or config.get("order"):
        return False
    return tuple(map(_set_name, config["sets"])) == pattern.sets


def _set_name(name: str) -> str | None:
    """Return the name of a data set of torchvision, or of a folder; None for a pack."""
    kind, _, place = name.partition(":")
    if not place:
        return name
    return PurePosixPath(place).name if kind == "folder" else None


def _is_imagenet_r(record: Record, pattern: ImageNetRMatch) -> bool:
    stream = record.stream
    return (
        record.config["stream"]["kind"] == pattern.kind
        and stream is not None
        and len(stream.experiences) == pattern.num_experiences
        and stream.summary.get("split") in pattern.splits
        and sum(stream.train) + sum(stream.validation or ()) == pattern.train
        and sum(stream.test) == pattern.test
    )
