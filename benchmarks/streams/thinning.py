"""A smaller data set with the classes in balance."""

from __future__ import annotations

from typing import Any

import numpy as np


def thinned(targets: Any, count: int | None) -> list[int]:
    """Choose at most ``count`` rows of a data set; the choice is always the same.

    Classes take turns. The rows of a class are chosen at random, with a fixed seed.

    Args:
        targets: [N] labels.
        count: largest number of rows; None chooses all.

    Returns:
        The chosen rows, sorted.
    """
    labels = np.asarray(targets)
    if count is None or count >= len(labels):
        return list(range(len(labels)))
    shuffled = np.random.default_rng(20260).permutation(len(labels))
    rank = np.empty(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        rows = shuffled[labels[shuffled] == label]
        rank[rows] = np.arange(len(rows))
    return sorted(int(r) for r in np.lexsort((labels, rank))[:count])
