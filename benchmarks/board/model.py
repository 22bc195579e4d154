"""The board as data, which tables, figures and page show."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from benchmarks.board.columns import COLUMNS, KEEPING, LEARNING, Column
from benchmarks.board.marks import Mark, marks_of
from benchmarks.board.reported import Reported, reported_beside
from benchmarks.methods import registry
from benchmarks.results.files import Collected
from benchmarks.results.intervals import Interval, interval, paired, pareto
from benchmarks.results.places import hidden, title_of
from benchmarks.results.published import PublishedTable
from benchmarks.results.record import Record
from benchmarks.results.settings import (
    Row,
    comparisons_of,
    distinctions,
    hardware,
    leaves,
    rows_of,
    usual_identity,
)

_MOST_KEYS = 2
"""Keys that tell a comparison apart in its title; the section names all of them."""
_MOST_LETTERS = 60
"""Letters of such a key's value in the title."""


@dataclass(frozen=True, eq=False)
class Entry:
    """A row of the board.

    Attributes:
        row: runs of one setting.
        cells: interval by column; None if it is unknown, or the machines are mixed.
        differences: paired difference to plain fine-tuning, by column without cost.
        marks: reasons to read the row with care.
        distinct: keys beside the strength in which the row differs from rows of its method.
        front: True if no other row is better in both learning and keeping.
        headline: True if the row represents its method: the chosen setting, or every setting of
            a method without a chosen one.
        confirmations: by seed the records of the run that agree, the used one first; seeds with
            one record are left out.
    """

    row: Row
    cells: dict[str, Interval | None]
    differences: dict[str, Interval | None]
    marks: tuple[Mark, ...]
    distinct: dict[str, str]
    front: bool
    headline: bool
    confirmations: dict[int, tuple[Record, ...]] = field(default_factory=dict)

    @property
    def ranked(self) -> bool:
        """True if the row may be compared with other rows."""
        return not any(mark.unranked for mark in self.marks)

    @property
    def path(self) -> tuple[str, ...]:
        """The rows with the same path differ in a number alone; a line of the plot joins them."""
        alone = ("auto",) if self.row.strength == "auto" else ()
        return self.row.method, *alone, *(f"{key}={value}" for key, value in self.distinct.items())


@dataclass(frozen=True, eq=False)
class Comparison:
    """Runs that may be compared: one stream, one backbone, one panel.

    Attributes:
        number: number on the board, from 1.
        stream: name of the stream.
        backbone: name of the backbone.
        experiences: names of the experiences, in order.
        panel: names of the panel's data sets.
        split: hash of the split that most runs have.
        baseline: row of plain fine-tuning that other rows are compared with.
        entries: rows of the comparison.
        seeds: number of seeds that a row should have.
        apart: keys in which it differs from comparisons of the same stream and backbone.
        title: stream and backbone, and the difference to comparisons of the same ones.
        test: number of test images of each experience.
        panel_test: number of test images of each data set of the panel.
        reported: published figures of the stream and the backbone; no other attribute depends on
            them.
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
    title: str
    test: tuple[int, ...] = ()
    panel_test: tuple[int, ...] = ()
    reported: tuple[Reported, ...] = ()

    @property
    def keeping(self) -> str:
        """Key of the column of keeping: of the panel, or without a panel of the stream."""
        return _keeping([entry.cells for entry in self.entries])


@dataclass(frozen=True, eq=False)
class Board:
    """Everything that the board shows.

    Attributes:
        comparisons: groups of comparable runs.
        failed: records of failed runs.
        refused: reasons by name of a file that is not used.
        records: all records.
    """

    comparisons: tuple[Comparison, ...]
    failed: tuple[Record, ...]
    refused: dict[str, str]
    records: tuple[Record, ...]


def make_board(
    collected: Collected,
    current: Mapping[str, int],
    seeds: int | None = None,
    published: Sequence[PublishedTable] = (),
) -> Board:
    """Return the board of records, which does not depend on their order.

    Args:
        collected: records, and files that are not used.
        current: present version of each method; records of another version are stale.
        seeds: number of seeds that a row should have; None takes the largest number of a row.
        published: tables of papers, of which each comparison shows those of its stream and
            backbone.
    """
    rows = rows_of(collected.records)
    groups = [g for g in comparisons_of(rows) if any(row.finished for row in g)]
    apart = _apart([json.loads(group[0].comparison) for group in groups])
    confirmations = collected.confirmations
    comparisons = [
        _comparison(number, group, current, seeds, keys, confirmations)
        for number, (group, keys) in enumerate(zip(groups, apart, strict=True), 1)
    ]
    comparisons = [
        replace(c, title=title, reported=reported_beside(_finished(c), published))
        for c, title in zip(comparisons, _titles(comparisons), strict=True)
    ]
    failed = tuple(record for row in rows for record in row.failed)
    refused = dict(sorted(collected.refused.items()))
    return Board(tuple(comparisons), failed, refused, collected.records)


def _finished(comparison: Comparison) -> Iterator[Record]:
    return (record for entry in comparison.entries for record in entry.row.finished)


def _titles(comparisons: Sequence[Comparison]) -> list[str]:
    """Return a title for each comparison; no two are the same."""
    names = [f"{c.stream} on {c.backbone}" for c in comparisons]
    titles: list[str] = []
    for name, comparison in zip(names, comparisons, strict=True):
        keys = [f"{key}={_trimmed(value)}" for key, value in comparison.apart.items()]
        title = name
        if names.count(name) > 1 and keys:
            more = f" and {len(keys) - _MOST_KEYS} more" if len(keys) > _MOST_KEYS else ""
            title = f"{name}, {', '.join(keys[:_MOST_KEYS])}{more}"
        if title in titles:
            title = f"{title} ({comparison.number})"
        titles.append(title)
    return titles


def _trimmed(value: str) -> str:
    return value if len(value) <= _MOST_LETTERS else f"{value[: _MOST_LETTERS - 1]}…"


def _apart(parts: Sequence[Sequence[dict[str, Any]]]) -> list[dict[str, str]]:
    """Return the keys in which each comparison differs from others of stream and backbone.

    Args:
        parts: stream, backbone and panel of each comparison.
    """
    names = [(stream["kind"], backbone["name"]) for stream, backbone, _ in parts]
    flat = [leaves(dict(zip(("stream", "backbone", "panel"), part, strict=True))) for part in parts]
    differing: list[dict[str, str]] = []
    for name, own in zip(names, flat, strict=True):
        same = [other for other, known in zip(flat, names, strict=True) if known == name]
        keys = sorted({key for other in same for key in other})
        differing.append(
            {
                key: own.get(key, "not set")
                for key in keys
                if len({other.get(key) for other in same}) > 1
            }
        )
    return differing


def _comparison(
    number: int,
    rows: Sequence[Row],
    current: Mapping[str, int],
    asked: int | None,
    apart: dict[str, str],
    confirmations: Mapping[str, tuple[Record, ...]],
) -> Comparison:
    config = rows[0].config
    usual = usual_identity(rows)
    seeds = asked or max(len(row.finished) + len(row.failed) for row in rows)
    # a row that was measured on other images is no baseline
    whole = [row for row in rows if row.identities == {usual}]
    plain = [r for name in registry.PLAIN for r in whole if r.method == name]
    plain = [row for row in plain if row.method == plain[0].method]
    distinct = distinctions(rows)
    chosen = {row.method for row in rows if row.chosen}
    parts = []
    for row in rows:
        base = _nearest(row, plain)
        marks = marks_of(row, base, usual, seeds, current, rows)
        comparable = base not in (None, row) and not any(m.unranked for m in marks)
        cells = {c.key: _cell(row, base, c) for c in COLUMNS}
        differences = {
            c.key: paired(row.scores(c.key), base.scores(c.key))
            if comparable and base is not None
            else None
            for c in COLUMNS
            if not c.cost
        }
        parts.append((row, cells, differences, marks))
    parts.sort(key=lambda part: any(m.unranked for m in part[3]))  # unranked rows are below
    keeping = _keeping([cells for _, cells, _, _ in parts])
    drawn = [
        (row.setting, (cells[LEARNING].mean, cells[keeping].mean))
        for row, cells, _, marks in parts
        if cells[LEARNING] and cells[keeping] and not any(m.unranked for m in marks)
    ]
    front = {drawn[k][0] for k in pareto([point for _, point in drawn])}
    entries = tuple(
        Entry(
            row,
            cells,
            differences,
            marks,
            distinct[row.setting],
            row.setting in front,
            row.chosen or row.method not in chosen,
            {
                r.config["seed"]: confirmations[r.run_id]
                for r in row.finished
                if r.run_id in confirmations
            },
        )
        for row, cells, differences, marks in parts
    )
    first = next((r for row in rows for r in row.finished), None)
    stream = None if first is None else first.stream
    return Comparison(
        number=number,
        stream=config["stream"]["kind"] if stream is None else stream.name,
        backbone=config["backbone"]["name"],
        experiences=() if stream is None else stream.experiences,
        panel=tuple(map(title_of, hidden(config)["panel"]["sets"])),
        split=None if usual is None else usual[0],
        baseline=plain[0] if plain else None,
        entries=entries,
        seeds=seeds,
        apart=apart,
        title="",
        test=() if stream is None else stream.test,
        panel_test=() if first is None else tuple(d.test for d in (first.panel or {}).values()),
    )


def _keeping(cells: Sequence[Mapping[str, Interval | None]]) -> str:
    """Return the first key of keeping that a row has; the last key if no row has one."""
    return next((key for key in KEEPING if any(part.get(key) for part in cells)), KEEPING[-1])


def _nearest(row: Row, plain: Sequence[Row]) -> Row | None:
    """Return the row of plain fine-tuning that ``row`` is compared with.

    It is one that validation data chose, if there is such a row. Of several, it is the one that
    shares most keys with ``row``.
    """
    if row in plain:
        return row
    leaves = set(row.leaves.items())
    return max(plain, key=lambda p: (p.chosen, len(leaves & set(p.leaves.items()))), default=None)


def _cell(row: Row, base: Row | None, column: Column) -> Interval | None:
    if column.cost and len(row.machines) > 1:
        return None
    if column.ratio_of is None:
        return interval(row.scores(column.key))
    if base is None:
        return None
    if base is row:
        return Interval(1.0, None, dict.fromkeys(row.scores(column.ratio_of), 1.0))
    return interval(_ratios(row, base, column.ratio_of))


def _ratios(row: Row, base: Row, score: str) -> dict[int, float]:
    """Return a score divided by that of ``base``, by seed with both runs on one machine."""
    there = {r.config["seed"]: hardware(r) for r in base.finished}
    seeds = [s for r in row.finished if there.get(s := r.config["seed"]) == hardware(r)]
    values, plain = row.scores(score), base.scores(score)
    return {s: values[s] / plain[s] for s in seeds if s in values and plain.get(s)}
