"""Pseudo-labels: k-means clusters inside each class."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor

_ROUNDS = 50  # of Lloyd's algorithm


def pseudo_labels(rows: Tensor, labels: Tensor, clusters_per_class: int) -> Tensor:
    """Split each class into clusters by k-means, and return the number of each row's cluster.

    k-means draws no random number. Its first centre is the row with the least sum of squared
    distances to the rows of the class. Each further centre is the row that lowers the sum of
    squared distances to the nearest centre most. Lloyd's algorithm follows, for 50 rounds.
    Neither the order of the rows nor, except for ties, a rotation of the features changes the
    clusters.

    A class with no more distinct rows than ``clusters_per_class`` gets a cluster for each
    distinct row. A cluster that loses all its rows is dropped.

    Args:
        rows: [N, D] features, float64 on the CPU.
        labels: [N] labels.
        clusters_per_class: the most clusters of a class, at least 1; 1 keeps the classes.

    Returns:
        [N] int64, from 0 without gaps, ordered by label first.

    Raises:
        ImportError: when a class has to be split and SciPy is not installed.

    Example:
        >>> import torch
        >>> from avalanche_proxyfda.metrics.pseudo_labels import pseudo_labels
        >>> rows = torch.tensor([[0.0], [5.0], [0.1], [5.1], [9.0]], dtype=torch.float64)
        >>> pseudo_labels(rows, torch.tensor([3, 3, 3, 3, 7]), 2)
        tensor([1, 0, 1, 0, 2])
    """
    classes: Tensor = torch.unique(labels, return_inverse=True)[1]
    if clusters_per_class == 1:
        return classes
    clusters, count = torch.zeros_like(classes), 0
    for c in range(int(classes.max()) + 1):
        members = classes == c
        own = torch.from_numpy(_clusters(rows[members].numpy(), clusters_per_class))
        clusters[members] = own + count
        count += int(own.max()) + 1
    return clusters


def _clusters(rows: Any, most: int) -> Any:
    """Return the cluster of each row of one class, [n] int64 from 0 without gaps."""
    distinct, places = np.unique(rows, axis=0, return_inverse=True)
    places = places.reshape(-1)  # NumPy 2.0 alone gives it another shape
    if len(distinct) <= most:
        return places.astype(np.int64)
    # the order of values in place of the order of samples, so that ties are broken alike
    order = np.argsort(places, kind="stable")
    ordered = rows[order]
    clusters = np.empty(len(rows), dtype=np.int64)
    clusters[order] = np.unique(_lloyd(ordered, most), return_inverse=True)[1].reshape(-1)
    return clusters


def _lloyd(rows: Any, count: int) -> Any:
    """Return the nearest of at most ``count`` centres for each row, [n]."""
    try:
        from scipy.cluster.vq import kmeans2
        from scipy.spatial.distance import cdist
    except ImportError as error:
        raise ImportError("k-means needs SciPy: pip install 'avalanche-proxyfda[ot]'") from error
    squares = cdist(rows, rows, "sqeuclidean")
    nearest, centres = np.full(len(rows), np.inf), []
    for _ in range(count):
        centres.append(int(np.minimum(nearest, squares).sum(axis=1).argmin()))
        nearest = np.minimum(nearest, squares[centres[-1]])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="One of the clusters is empty")
        return kmeans2(rows, rows[centres], iter=_ROUNDS, minit="matrix")[1]
