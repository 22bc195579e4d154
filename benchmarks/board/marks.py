"""Marks of rows: reasons to read a row with care, or not to rank it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.results.settings import Identity, Row


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
    row: Row, base: Row | None, usual: Identity | None, seeds: int, current: Mapping[str, int]
) -> tuple[Mark, ...]:
    """Return the marks of a row.

    Args:
        row: row to mark.
        base: row of plain fine-tuning that ``row`` is compared with.
        usual: identity that most runs of the comparison have.
        seeds: number of seeds that a row should have.
        current: present version of each method; a method without a version is never stale.
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
    other = _trained_otherwise(row, base)
    if other:
        marks.append(Mark("trained otherwise", f"Than plain fine-tuning here: {other}."))
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


def _trained_otherwise(row: Row, base: Row | None) -> str:
    """Return the keys of training and head in which a row differs from its baseline."""
    if base is None or base is row:
        return ""
    keys, plain = row.leaves, base.leaves
    return ", ".join(
        f"{key}={keys.get(key, 'not set')} in place of {plain.get(key, 'not set')}"
        for key in sorted({*keys, *plain})
        if key.startswith(("train.", "head.")) and keys.get(key) != plain.get(key)
    )


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
