"""The board as data: what its tables, figures and page all show."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from benchmarks.board.marks import Mark, hardware, marks_of
from benchmarks.board.rows import (
    Row,
    comparison_of,
    distinctions,
    identity_of,
    leaves,
    rows_of,
    usual_identity,
)
from benchmarks.board.stats import Interval, interval, paired, pareto
from benchmarks.methods.registry import PLAIN
from benchmarks.record import Record
from benchmarks.record_files import Collected

Unit = Literal["percent", "points", "change", "times", "bytes"]


@dataclass(frozen=True)
class Column:
    """A score that is shown.

    Attributes:
        key: of :data:`~benchmarks.scores.SCORES`, or ``step_cost``.
        title: of the column.
        unit: ``percent`` of images; ``points``, of a loss, or ``change``, with its sign; ``times``
            plain fine-tuning; ``bytes``.
        better: whether more or less is better.
        short: what it is, in a few words.
        about: one sentence.
    """

    key: str
    title: str
    unit: Unit
    better: Literal["more", "less"]
    short: str
    about: str


COLUMNS = (
    Column("last", "Last", "percent", "more", "accuracy at the end",
           "Accuracy on the test images of all data sets of the stream, after the last was learnt: "
           "what the model has learnt."),
    Column("avg", "Avg", "percent", "more", "accuracy on the way",
           "Accuracy on the data sets learnt by then, after each of them; the mean."),
    Column("forgetting_first", "Forgetting", "points", "less", "of the stream itself",
           "Accuracy on a data set right after learning it minus at the end, mean over all but the "
           "last (Avalanche's formula): what was forgotten of the stream."),
    Column("bwt", "BWT", "change", "more", "minus forgetting",
           "Backward transfer: minus forgetting."),
    Column("delta_lp", "Δ_LP", "change", "more", "unseen data, probes",
           "What is left of what the model knew before: the change, since pre-training, of the "
           "accuracy of linear probes on data sets that it was never tuned on (the panel). Probes "
           "are fitted anew on the features of each model. Below 0 is concept forgetting."),
    Column("delta_zs", "Δ_ZS", "change", "more", "unseen data, zero-shot",
           "The change of the panel's accuracy since pre-training with the texts of the classes in "
           "place of probes (zero-shot)."),
    Column("neighbors_kept", "Neighbours kept", "percent", "more", "unseen data",
           "Share of a panel image's 10 nearest neighbours in feature space that are its "
           "neighbours still."),
    Column("step_cost", "Step cost", "times", "less", "time",
           "Median time of a training step, divided by that of plain fine-tuning with the same "
           "seed on the same machine. Other work on a machine makes it noisy: mind the interval."),
    Column("peak_memory", "Memory", "bytes", "less", "at most",
           "Of the GPU, its peak; else what the process held after a step at most, with its data, "
           "its libraries, and what earlier runs in it left."),
)  # fmt: skip
COST = ("step_cost", "peak_memory")


@dataclass(frozen=True, eq=False)
class Entry:
    """A row of the board.

    Attributes:
        row: the runs.
        cells: interval by column; None where it is not known, or mixed.
        differences: paired, to plain fine-tuning, of :data:`COLUMNS` that have no cost.
        marks: what is wrong with it.
        distinct: keys that tell it from rows of the same method and strength.
        front: whether no other row beats it in both learning and keeping.
        headline: whether it stands for its method: the chosen one, or any where none is.
    """

    row: Row
    cells: dict[str, Interval | None]
    differences: dict[str, Interval | None]
    marks: tuple[Mark, ...]
    distinct: dict[str, str]
    front: bool
    headline: bool

    @property
    def ranked(self) -> bool:
        """Whether it may be compared with the others."""
        return not any(mark.unranked for mark in self.marks)


@dataclass(frozen=True, eq=False)
class Comparison:
    """Runs that may be compared: one stream, one backbone, one panel.

    Attributes:
        number: from 1.
        stream: its name.
        backbone: its name.
        experiences: what was learnt, in order.
        panel: data sets that were probed.
        split: the hash that most runs have.
        baseline: the row of plain fine-tuning that the others are compared with.
        entries: rows.
        seeds: how many a row should have.
        apart: keys that tell it from comparisons of the same stream and backbone.
    """

    number: int
    stream: str
    backbone: str
    experiences: tuple[str, ...]
    panel: tuple[str, ...]
    split: str | None
    baseline: Row | None
    entries: tuple[Entry, ...]
    seeds: int
    apart: dict[str, str]

    @property
    def keeping(self) -> str:
        """The column of what was kept: the panel's, or without one the stream's own."""
        return "delta_lp" if any(e.cells.get("delta_lp") for e in self.entries) else "bwt"


@dataclass(frozen=True, eq=False)
class Board:
    """Everything that is shown."""

    comparisons: tuple[Comparison, ...]
    failed: tuple[Record, ...]
    refused: dict[str, str]
    records: tuple[Record, ...]


def make_board(found: Collected, current: Mapping[str, int], seeds: int | None = None) -> Board:
    """The board of records: the same for the same records in any order.

    Args:
        found: records, and files that are not used.
        current: present version of each method; records of another are stale.
        seeds: how many each row should have; None takes the most that any has.
    """
    groups: dict[str, list[Row]] = {}
    for row in rows_of(found.records):
        groups.setdefault(comparison_of(row.config), []).append(row)
    keys = sorted(groups)
    apart = _apart(keys)
    made = [_comparison(n, groups[k], current, seeds, apart[k]) for n, k in enumerate(keys, 1)]
    failed = tuple(r for rows in groups.values() for row in rows for r in row.failed)
    return Board(tuple(made), failed, dict(sorted(found.refused.items())), found.records)


def _apart(keys: Sequence[str]) -> dict[str, dict[str, str]]:
    """By comparison: what it has that others of its stream and backbone have not."""
    parts = {
        k: dict(zip(("stream", "backbone", "panel"), json.loads(k), strict=True)) for k in keys
    }
    flat = {k: leaves(part) for k, part in parts.items()}
    found: dict[str, dict[str, str]] = {k: {} for k in keys}
    for k in keys:
        name = (parts[k]["stream"]["kind"], parts[k]["backbone"]["name"])
        same = [
            o for o in keys if (parts[o]["stream"]["kind"], parts[o]["backbone"]["name"]) == name
        ]
        for key in sorted({key for o in same for key in flat[o]}):
            if len({flat[o].get(key) for o in same}) > 1:
                found[k][key] = flat[k].get(key, "not set")
    return found


def _comparison(
    number: int,
    rows: Sequence[Row],
    current: Mapping[str, int],
    asked: int | None,
    apart: dict[str, str],
) -> Comparison:
    config = rows[0].config
    usual = usual_identity(rows)
    seeds = asked or max(len(row.finished) + len(row.failed) for row in rows)
    # what was measured on other images is no baseline
    whole = [row for row in rows if {identity_of(r) for r in row.finished} == {usual}]
    plain = [r for name in PLAIN for r in whole if r.method == name]
    plain = [row for row in plain if row.method == plain[0].method]
    told = distinctions(rows)
    chosen = {row.method for row in rows if row.chosen}
    parts = []
    for row in rows:
        base = _nearest(row, plain)
        marks = marks_of(row, base, usual, seeds, current)
        comparable = base not in (None, row) and not any(m.unranked for m in marks)
        cells = {c.key: _cell(row, base, c.key) for c in COLUMNS}
        differences = {
            c.key: paired(row.scores(c.key), base.scores(c.key))
            if comparable and base is not None else None
            for c in COLUMNS if c.key not in COST
        }  # fmt: skip
        parts.append((row, cells, differences, marks))
    parts.sort(key=lambda part: any(m.unranked for m in part[3]))  # what is not ranked is below
    keeping = "delta_lp" if any(cells["delta_lp"] for _, cells, _, _ in parts) else "bwt"
    drawn = [
        (row.setting, (cells["last"].mean, cells[keeping].mean))
        for row, cells, _, marks in parts
        if cells["last"] and cells[keeping] and not any(m.unranked for m in marks)
    ]
    front = {drawn[k][0] for k in pareto([point for _, point in drawn])}
    entries = tuple(
        Entry(
            row, cells, differences, marks, told[row.setting], row.setting in front,
            row.chosen or row.method not in chosen,
        )
        for row, cells, differences, marks in parts
    )  # fmt: skip
    first = next((r for row in rows for r in row.finished), None)
    stream = None if first is None else first.stream
    return Comparison(
        number=number,
        stream=config["stream"]["kind"] if stream is None else stream.name,
        backbone=config["backbone"]["name"],
        experiences=() if stream is None else stream.experiences,
        panel=tuple(config["panel"]["sets"]),
        split=None if usual is None else usual[0],
        baseline=plain[0] if plain else None,
        entries=entries,
        seeds=seeds,
        apart=apart,
    )


def _nearest(row: Row, plain: Sequence[Row]) -> Row | None:
    """Plain fine-tuning with the most of ``row``'s configuration; itself if it is plain."""
    own = set(leaves(row.config).items())
    if row in plain:
        return row
    return max(plain, key=lambda p: len(own & set(leaves(p.config).items())), default=None)


def _cell(row: Row, base: Row | None, key: str) -> Interval | None:
    if key in COST and len({hardware(r) for r in row.finished}) > 1:
        return None
    if key != "step_cost":
        return interval(row.scores(key))
    if base is None:
        return None
    if base is row:
        return Interval(1.0, None, dict.fromkeys(row.scores("seconds_per_step"), 1.0))
    there = {r.config["seed"]: r for r in base.finished}
    pairs = [(r, there[r.config["seed"]]) for r in row.finished if r.config["seed"] in there]
    return interval({
        r.config["seed"]: r.cost.seconds_per_step / other.cost.seconds_per_step
        for r, other in pairs
        if r.cost and other.cost and other.cost.seconds_per_step
        and hardware(r) == hardware(other)
    })  # fmt: skip
