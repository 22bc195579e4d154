"""Scalars of a whole accuracy matrix, entry by entry as their sources define them.

``matrix`` has rows t = 0, ..., T, and its columns count from 0 here: column k is set k + 1.
"""

from __future__ import annotations

Whole = list[list[float]]


def transfer(matrix: Whole) -> float:
    """ZSCL: for each set after the first, the mean accuracy until it is learnt; the mean."""
    size = len(matrix) - 1
    total = 0.0
    for i in range(2, size + 1):
        before = 0.0
        for t in range(1, i):
            before += matrix[t][i - 1]
        total += before / (i - 1)
    return total / (size - 1)


def untrained(matrix: Whole) -> float:
    """The same of a model whose every row is row 0."""
    size = len(matrix) - 1
    return transfer([matrix[0] for _ in range(size + 1)])


def mtil_avg(matrix: Whole) -> float:
    """ZSCL: the mean over sets of the mean over rows from 1 on."""
    size = len(matrix) - 1
    total = 0.0
    for i in range(1, size + 1):
        of_set = 0.0
        for t in range(1, size + 1):
            of_set += matrix[t][i - 1]
        total += of_set / size
    return total / size


def snd_forgetting(matrix: Whole) -> float:
    """SND: for each set before the last, the largest drop from a row before the end to the end."""
    size = len(matrix) - 1
    total = 0.0
    for i in range(1, size):
        largest = -2.0
        for t in range(1, size):
            drop = matrix[t][i - 1] - matrix[size][i - 1]
            if drop > largest:
                largest = drop
        total += largest
    return total / (size - 1)


def snd_degradation(matrix: Whole) -> float:
    """SND: for each set after the first, the largest drop from row 0 until it is learnt."""
    size = len(matrix) - 1
    total = 0.0
    for i in range(2, size + 1):
        largest = -2.0
        for t in range(1, i + 1):
            drop = matrix[0][i - 1] - matrix[t][i - 1]
            if drop > largest:
                largest = drop
        total += largest
    return total / (size - 1)
