"""Test accuracies of each data set of a stream, and how many images stand behind them."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from benchmarks.results.scores import outcome_of
from benchmarks.results.settings import Row

_ABOUT = (
    "Test accuracy of each data set at the end (%). One image is as many points as its line says: "
    "smaller differences mean nothing.",
    "*: at or below chance, which is 100 % over the number of classes.",
)


def per_set(rows: Sequence[Row]) -> str:
    """Return a Markdown table of the data sets, one column each; empty without such data sets.

    Args:
        rows: rows of one comparison, on a stream that lists its data sets.
    """
    whole = [row for row in rows if row.finished]
    if not whole:
        return ""
    stream = whole[0].finished[0].stream
    assert stream is not None
    listed = stream.summary.get("sets", ())
    if len(listed) != len(stream.experiences):
        return ""
    chances = [1 / about["classes"] for about in listed]
    lines = [
        ["", *stream.experiences],
        ["---"] * (1 + len(chances)),
        ["test images", *map(str, stream.test)],
        ["one image (points)", *(f"{100 / count:.1f}" for count in stream.test)],
        ["chance", *(f"{100 * chance:.1f}" for chance in chances)],
    ]
    for row in whole:
        ends = [outcome_of(record).accuracy[-1] for record in row.finished]
        means = [statistics.fmean(end[k] or 0.0 for end in ends) for k in range(len(chances))]
        cells = [f"{100 * m:.1f}{_mark(m, c)}" for m, c in zip(means, chances, strict=True)]
        lines.append([row.label, *cells])
    return "\n".join(["", *("| " + " | ".join(line) + " |" for line in lines), "", *_ABOUT])


def _mark(mean: float, chance: float) -> str:
    return " *" if mean <= chance + 1e-9 else ""
