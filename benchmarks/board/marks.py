"""Marks of rows: reasons to read a row with care, or not to rank it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.results.settings import Identity, Row

OTHERWISE = "trained otherwise"
"""Mark of a row whose training or head is not that of the rows beside it."""
_TRAINING = ("train.", "head.")


@dataclass(frozen=True)
class Mark:
    """A reason to read a row with care.

    Attributes:
        word: the mark in one or two words.
        about: the reason in a sentence.
        unranked: True takes the row out of the ranking.
    """

    word: str
    about: str
    unranked: bool = False


def marks_of(
    row: Row,
    base: Row | None,
    usual: Identity | None,
    seeds: int,
    current: Mapping[str, int],
    rows: Sequence[Row] = (),
) -> tuple[Mark, ...]:
    """Return the marks of a row.

    Args:
        row: row to mark.
        base: row of plain fine-tuning that ``row`` is compared with.
        usual: identity that most runs of the comparison have.
        seeds: number of seeds that a row should have.
        current: present version of each method; a method without a version is never stale.
        rows: rows of the comparison, which ``row`` is compared with if there is no base.
    """
    marks = []
    done, failed = len(row.finished), len(row.failed)
    if failed:
        marks.append(Mark(f"{failed} failed", f"{failed} of its runs ended with an error."))
    if done < seeds:
        text = f"{done} of {seeds} seeds are finished, so it is not ranked."
        marks.append(Mark("too few seeds", text, unranked=True))
    identities = row.identities
    if len(identities) > 1:
        text = "Its runs saw different images, or began with different weights: not ranked."
        marks.append(Mark("mixed splits", text, unranked=True))
    elif identities and identities != {usual}:
        text = "It was measured on other images than most rows, or began with other weights: "
        marks.append(Mark("other split", f"{text}not ranked.", unranked=True))
    if base is not None:
        other, than = _trained_otherwise(row, base), "plain fine-tuning"
    else:
        other, than = _unlike_most(row, rows), "other rows"
    if other:
        marks.append(Mark(OTHERWISE, f"Than {than} here: {other}."))
    if len(row.machines) > 1:
        marks.append(Mark("mixed machines", "Its runs were made on different machines: no cost."))
    elif base is not None and row.finished and row.machines != base.machines:
        text = "Made on another machine than plain fine-tuning: no step cost for those seeds."
        marks.append(Mark("other machine", text))
    stale = _stale(row, current)
    if stale:
        marks.append(Mark("stale", stale))
    if any(r.how.code.changed for r in row.finished):
        text = "The code had changes that were not committed, so its commit does not say all."
        marks.append(Mark("uncommitted", text))
    return tuple(marks)


def _trained_otherwise(row: Row, base: Row) -> str:
    """Return the keys of training and head in which a row differs from its baseline."""
    keys, plain = row.leaves, base.leaves
    return ", ".join(
        f"{key}={keys.get(key, 'not set')} in place of {plain.get(key, 'not set')}"
        for key in sorted({*keys, *plain})
        if key.startswith(_TRAINING) and keys.get(key) != plain.get(key)
    )


def _unlike_most(row: Row, rows: Sequence[Row]) -> str:
    """Return the keys of training and head in which a row differs from most finished rows.

    Where no value is that of most rows, every row differs. A key in which rows of one method
    differ is left out, since the names of these rows hold it.
    """
    finished = [each.leaves for each in rows if each.finished]
    same = [each.leaves for each in rows if each.method == row.method]
    parts = []
    for key in sorted({key for keys in (row.leaves, *finished) for key in keys}):
        if not key.startswith(_TRAINING) or len({keys.get(key) for keys in same}) > 1:
            continue
        counts = Counter(keys.get(key, "not set") for keys in finished)
        own, most = row.leaves.get(key, "not set"), max(counts.values(), default=0)
        usual = sorted(value for value, count in counts.items() if count == most)
        others = [value for value in usual if value != own]
        if others and usual != [own]:
            parts.append(f"{key}={own} in place of {' or '.join(others)}")
    return ", ".join(parts)


def _stale(row: Row, current: Mapping[str, int]) -> str:
    """Return a sentence if a row ran with an older version of its method; else nothing."""
    ran: dict[str, set[int]] = {}
    for record in row.finished:
        for method, version in record.method_versions.items():
            ran.setdefault(method, set()).add(version)
    for method, versions in ran.items():
        now, several = current.get(method), len(ran) > 1
        others = ", ".join(map(str, sorted(versions - {now})))
        if now is not None and others:
            return (
                f"Run with version {others} of {method if several else 'the method'}, which is "
                f"version {now} now: a version is raised when the method's numbers change. Run it "
                "again."
            )
    return ""
