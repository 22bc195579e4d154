"""Neighbours lost between two models, from the definition, in plain loops."""

from __future__ import annotations

from tests.reference.drift import Rows, cosine


def nearest(rows: Rows, i: int, k: int) -> list[int]:
    """The k rows nearest to row i by cosine, nearest first, itself left out."""
    others = [(-cosine(rows[i], rows[j]), j) for j in range(len(rows)) if j != i]
    return [j for _, j in sorted(others)[:k]]


def neighbors_lost(before: Rows, after: Rows, k: int) -> tuple[list[float], list[list[int]]]:
    """Share of the neighbours kept, and those lost, of each row."""
    shares, lost = [], []
    for i in range(len(before)):
        now = nearest(after, i, k)
        gone = [j for j in nearest(before, i, k) if j not in now]
        shares.append((k - len(gone)) / k)
        lost.append(gone)
    return shares, lost
