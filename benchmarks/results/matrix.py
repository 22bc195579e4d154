"""Scalars of an accuracy matrix; each name is one formula, since several are called forgetting.

A matrix R of T experiences has T + 1 rows. Row 0 is before training, and row t is after experience
t, counted from 1. Column j is the test accuracy on experience j + 1. An entry is None if it was not
measured, for example because the head of a later experience does not exist yet.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence

Matrix = Sequence[Sequence["float | None"]]


def checked_matrix(matrix: Matrix) -> list[list[float]]:
    """Return R[t][j] of learnt experiences, in rows from t = 1; every formula needs this part.

    Raises:
        ValueError: if the shape is wrong, or an accuracy of a learnt experience is missing or
            out of [0, 1].
    """
    size = len(matrix) - 1
    if size < 1 or any(len(row) != size for row in matrix):
        widths = [len(row) for row in matrix]
        raise ValueError(f"the matrix has rows of {widths} entries; expected T + 1 rows of T")
    known = []
    for t, row in enumerate(matrix[1:], 1):
        values = []
        for j, value in enumerate(row[:t]):
            if value is None or not math.isfinite(value) or not 0 <= value <= 1:
                raise ValueError(
                    f"accuracy {value} on experience {j + 1} after experience {t} must lie in "
                    "[0, 1]"
                )
            values.append(float(value))
        known.append(values)
    return known


def weighted_mean(values: Sequence[float], counts: Sequence[int] | None) -> float:
    """Return the mean of ``values``, weighted by the first ``counts`` unless these are None.

    Raises:
        ValueError: if there are too few counts, or a count is not positive.
    """
    if counts is None:
        return statistics.fmean(values)
    used = counts[: len(values)]
    if len(used) < len(values) or min(used) <= 0:
        raise ValueError(f"counts={list(counts)} must be positive, one for each experience")
    # fsum, because sum rounds differently since Python 3.12
    return math.fsum(v * n for v, n in zip(values, used, strict=True)) / sum(used)


def last(matrix: Matrix, counts: Sequence[int] | None = None) -> float:
    """Return the accuracy after the last experience, the mean over experiences.

    Args:
        matrix: R.
        counts: numbers of test images by experience; the result is then the accuracy on all
            images. None weights all experiences equally.
    """
    return weighted_mean(checked_matrix(matrix)[-1], counts)


def avg(matrix: Matrix, counts: Sequence[int] | None = None) -> float:
    """Return the mean over t of the accuracy after experience t on experiences 1 to t.

    Args:
        matrix: R.
        counts: see :func:`last`.
    """
    return statistics.fmean(weighted_mean(row, counts) for row in checked_matrix(matrix))


def learnt(matrix: Matrix) -> float:
    """Return the accuracy on each experience right after learning it, the mean over them."""
    known = checked_matrix(matrix)
    return statistics.fmean(row[j] for j, row in enumerate(known))


def forgetting_first(matrix: Matrix) -> float:
    """Return the accuracy right after learning minus the accuracy at the end.

    The result is the mean over all experiences except the last. This is Avalanche's formula.
    As in all formulas of forgetting, a single experience gives 0.
    """
    known = checked_matrix(matrix)
    drops = [known[j][j] - known[-1][j] for j in range(len(known) - 1)]
    return statistics.fmean(drops) if drops else 0.0


def bwt(matrix: Matrix) -> float:
    """Return backward transfer (Lopez-Paz and Ranzato, 2017): minus :func:`forgetting_first`."""
    value = forgetting_first(matrix)
    return -value if value else 0.0


def forgetting_best(matrix: Matrix) -> float:
    """Return the best accuracy since learning minus the accuracy at the end.

    The result is the mean over all experiences except the last, and is never negative. This is
    the formula of PILOT and Mammoth.
    """
    known = checked_matrix(matrix)
    drops = [max(row[j] for row in known[j:]) - known[-1][j] for j in range(len(known) - 1)]
    return statistics.fmean(drops) if drops else 0.0


def forgetting_coda(matrix: Matrix) -> float:
    """Return the mean drop of accuracy in one step, by CODA-Prompt's formula.

    The drop of a step is the mean over the experiences learnt before it.
    """
    known = checked_matrix(matrix)
    steps = [
        statistics.fmean(known[t - 1][j] - known[t][j] for j in range(t))
        for t in range(1, len(known))
    ]
    return statistics.fmean(steps) if steps else 0.0


SCALARS: dict[str, Callable[[Matrix], float]] = {
    "last": last,
    "avg": avg,
    "forgetting_first": forgetting_first,
    "forgetting_best": forgetting_best,
    "forgetting_coda": forgetting_coda,
    "bwt": bwt,
}


def mean_change(before: Mapping[str, float], after: Mapping[str, float]) -> float | None:
    """Return the mean change over data sets: Δ_LP of probes, Δ_ZS of zero-shot heads.

    Args:
        before: accuracies before training, by data set.
        after: accuracies after training, by data set.

    Returns:
        The mean of after minus before; None without data sets.

    Raises:
        ValueError: if the data sets differ, or a value is not finite.
    """
    if set(before) != set(after):
        raise ValueError(f"before has {sorted(before)}, after {sorted(after)}")
    changes = [after[name] - value for name, value in before.items()]
    if not all(map(math.isfinite, changes)):
        raise ValueError("accuracies must be finite")
    return statistics.fmean(changes) if changes else None
