"""Scalars of a whole accuracy matrix: accuracy on data sets that are still to come.

The matrix R is that of :mod:`benchmarks.results.matrix`. Above its diagonal, R[t][j] is the
accuracy on a data set that the model was not trained on yet. A head of all classes, such as the
texts of CLIP, measures these entries; a growing head leaves them None. R is whole if no entry of
the rows 1 to T is None. Every formula returns None if R is not whole or has a single experience.
No formula weights experiences by their images.

Transfer and the mean of all entries are those of MTIL (ZSCL; Zheng et al., ICCV 2023). Catastrophic
forgetting and zero-shot degradation are those of SND (Yu et al., ECCV 2024, arXiv 2403.09296).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable

from benchmarks.results.matrix import Matrix, checked_matrix


def transfer_by_set(matrix: Matrix) -> list[float] | None:
    """Return for each experience i from 2 on the mean of R[1][i], ..., R[i - 1][i].

    Args:
        matrix: R.

    Returns:
        T - 1 values; None if R is not whole or has a single experience.

    Raises:
        ValueError: if the shape is wrong, an accuracy of a learnt experience is missing, or an
            accuracy is out of [0, 1].
    """
    rows = _whole_rows(matrix)
    if rows is None:
        return None
    return [statistics.fmean(row[j] for row in rows[:j]) for j in range(1, len(rows))]


def untrained_by_set(matrix: Matrix) -> list[float] | None:
    """Return R[0][i], the accuracy before training, for each experience i from 2 on.

    Args:
        matrix: R.

    Returns:
        T - 1 values; None if R is not whole, has a single experience, or lacks one of the values.

    Raises:
        ValueError: see :func:`transfer_by_set`.
    """
    if _whole_rows(matrix) is None:
        return None
    known = [value for value in matrix[0][1:] if value is not None]
    return known if len(known) == len(matrix) - 2 else None


def transfer(matrix: Matrix) -> float | None:
    """Return Transfer, the mean of :func:`transfer_by_set`.

    Args:
        matrix: R.

    Raises:
        ValueError: see :func:`transfer_by_set`.
    """
    values = transfer_by_set(matrix)
    return None if values is None else statistics.fmean(values)


def untrained_transfer(matrix: Matrix) -> float | None:
    """Return Transfer of the model before training, the mean of :func:`untrained_by_set`.

    Args:
        matrix: R.

    Raises:
        ValueError: see :func:`transfer_by_set`.
    """
    values = untrained_by_set(matrix)
    return None if values is None else statistics.fmean(values)


def delta_transfer(matrix: Matrix) -> float | None:
    """Return :func:`transfer` minus :func:`untrained_transfer`; below 0 is zero-shot forgetting.

    Args:
        matrix: R.

    Raises:
        ValueError: see :func:`transfer_by_set`.
    """
    after, before = transfer(matrix), untrained_transfer(matrix)
    return None if after is None or before is None else after - before


def mtil_avg(matrix: Matrix) -> float | None:
    """Return the Avg of MTIL, the mean of all T × T entries of the rows 1 to T.

    :func:`benchmarks.results.matrix.avg` is another quantity: its mean leaves out the entries above
    the diagonal.

    Args:
        matrix: R.

    Raises:
        ValueError: see :func:`transfer_by_set`.
    """
    rows = _whole_rows(matrix)
    return None if rows is None else statistics.fmean(value for row in rows for value in row)


def snd_forgetting(matrix: Matrix) -> float | None:
    """Return SND's catastrophic forgetting: the best accuracy before the end minus that at the end.

    The result is the mean over all experiences except the last. As in SND's code, the best accuracy
    is that of the rows 1 to T - 1. So rows from before an experience was learnt count too, and the
    drop is negative where the accuracy at the end is the best.

    Args:
        matrix: R.

    Raises:
        ValueError: see :func:`transfer_by_set`.
    """
    rows = _whole_rows(matrix)
    if rows is None:
        return None
    *earlier, end = rows
    return statistics.fmean(max(row[j] for row in earlier) - end[j] for j in range(len(earlier)))


def snd_degradation(matrix: Matrix) -> float | None:
    """Return SND's zero-shot degradation: the untrained accuracy minus the worst until learnt.

    The result is the mean over the experiences from 2 on. As in SND's code, the worst accuracy on
    experience i is that of the rows 1 to i. So the row right after learning experience i counts
    too, which changes the result only where learning made the accuracy on its own set the worst.

    Args:
        matrix: R.

    Raises:
        ValueError: see :func:`transfer_by_set`.
    """
    rows, before = _whole_rows(matrix), untrained_by_set(matrix)
    if rows is None or before is None:
        return None
    return statistics.fmean(
        value - min(row[j] for row in rows[: j + 1]) for j, value in enumerate(before, 1)
    )


def _whole_rows(matrix: Matrix) -> list[list[float]] | None:
    """Return the rows 1 to T; None if R is not whole or has a single experience."""
    checked_matrix(matrix)
    for t, row in enumerate(matrix):
        for j, value in enumerate(row, 1):
            if value is not None and not (math.isfinite(value) and 0 <= value <= 1):
                raise ValueError(
                    f"accuracy {value} on experience {j} after experience {t} must lie in [0, 1]"
                )
    rows = [[value for value in row if value is not None] for row in matrix[1:]]
    whole = len(rows) > 1 and all(len(row) == len(rows) for row in rows)
    return rows if whole else None


WHOLE: dict[str, Callable[[Matrix], float | None]] = {
    "transfer": transfer,
    "delta_transfer": delta_transfer,
    "mtil_avg": mtil_avg,
    "snd_forgetting": snd_forgetting,
    "snd_degradation": snd_degradation,
}
"""Formulas of a whole matrix by name."""
