"""One number of an accuracy matrix, each by its name: several formulas are called forgetting.

A matrix R has a row more than experiences: row 0 is before training, row t is after experience t
(counted from 1), and column j is the test accuracy on experience j + 1. What was not measured, as a
later experience whose head does not exist yet, is None.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence

Matrix = Sequence[Sequence["float | None"]]


def checked_matrix(matrix: Matrix) -> list[list[float]]:
    """The part that every formula needs, R[t][j] of learnt experiences, by row from 1.

    Raises:
        ValueError: when the shape is wrong, or an accuracy of a learnt experience is missing or
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
    """Mean of ``values``, weighed by the first of ``counts`` if there are any."""
    if counts is None:
        return statistics.fmean(values)
    used = counts[: len(values)]
    if len(used) < len(values) or min(used) <= 0:
        raise ValueError(f"counts={list(counts)} must be positive, one for each experience")
    # fsum: sum itself rounds in another way from Python 3.12 on
    return math.fsum(v * n for v, n in zip(values, used, strict=True)) / sum(used)


def last(matrix: Matrix, counts: Sequence[int] | None = None) -> float:
    """Accuracy after the last experience: mean over experiences.

    Args:
        matrix: R.
        counts: test images of each experience, to weigh by: then it is the accuracy on all images.
    """
    return weighted_mean(checked_matrix(matrix)[-1], counts)


def avg(matrix: Matrix, counts: Sequence[int] | None = None) -> float:
    """Mean over t of the accuracy, after experience t, on the experiences learnt so far.

    Args:
        matrix: R.
        counts: see :func:`last`.
    """
    return statistics.fmean(weighted_mean(row, counts) for row in checked_matrix(matrix))


def forgetting_first(matrix: Matrix) -> float:
    """Accuracy right after learning minus at the end, mean over all experiences but the last.

    Avalanche's formula. Like all of them, 0 for a single experience.
    """
    known = checked_matrix(matrix)
    drops = [known[j][j] - known[-1][j] for j in range(len(known) - 1)]
    return statistics.fmean(drops) if drops else 0.0


def bwt(matrix: Matrix) -> float:
    """Backward transfer (Lopez-Paz and Ranzato, 2017): minus :func:`forgetting_first`."""
    value = forgetting_first(matrix)
    return -value if value else 0.0


def forgetting_best(matrix: Matrix) -> float:
    """Best accuracy since learning minus at the end, mean over all experiences but the last.

    As PILOT and Mammoth do; the best is at least the end's, so it is never negative.
    """
    known = checked_matrix(matrix)
    drops = [max(row[j] for row in known[j:]) - known[-1][j] for j in range(len(known) - 1)]
    return statistics.fmean(drops) if drops else 0.0


def forgetting_coda(matrix: Matrix) -> float:
    """Drop in one step, mean over the experiences before, then over steps, as CODA-Prompt does."""
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
    """Mean over data sets of after minus before: Δ_LP of probes, Δ_ZS of zero-shot heads.

    Raises:
        ValueError: when the data sets differ, or a value is not finite.
    """
    if set(before) != set(after):
        raise ValueError(f"before has {sorted(before)}, after {sorted(after)}")
    changes = [after[name] - value for name, value in before.items()]
    if not all(map(math.isfinite, changes)):
        raise ValueError("accuracies must be finite")
    return statistics.fmean(changes) if changes else None
