"""k-nearest-neighbour classification of frozen features."""

from __future__ import annotations

import torch
from torch import Tensor

from avalanche_proxyfda._checks import check_amount, check_count
from avalanche_proxyfda._float64 import float64_device
from avalanche_proxyfda._labelled import (
    check_finite,
    check_pair,
    check_range,
    check_same_width,
)
from avalanche_proxyfda.metrics.nearest import Cosines, nearest, queries_at_once


def knn_accuracy(
    train: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor],
    num_neighbors: int = 20,
    temperature: float = 0.07,
) -> float:
    """Accuracy of the vote of the nearest training features, weighted by exp(cosine / temperature).

    Wu et al., *Unsupervised feature learning via non-parametric instance discrimination*,
    CVPR 2018. The vote has no parameters and no randomness. The smaller label wins a tie.

    The device of the test features computes in float64, or the CPU for a device without float64.
    An accelerator waits for the host only in the checks and for the result. Equally near training
    features: see :mod:`~avalanche_proxyfda.metrics.nearest`.

    Args:
        train: features [N, D] and labels [N], integers from 0, on any device.
        test: features [M, D] and labels [M], integers from 0, on any device. A label that
            ``train`` lacks counts as a miss.
        num_neighbors: K; if N is below K, all training features vote.
        temperature: divides the cosines; positive.

    Raises:
        TypeError: when a set is no pair of tensors, ``num_neighbors`` is no int, or
            ``temperature`` is no number.
        ValueError: when a set is empty, shapes do not fit, a feature is not finite, a label is
            negative or no integer, or an option is out of range.

    Example:
        >>> import torch
        >>> from avalanche_proxyfda.metrics import knn_accuracy
        >>> rows = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]])  # two clusters
        >>> labels = torch.tensor([0, 0, 1, 1])
        >>> knn_accuracy((rows, labels), (2 * rows, labels), num_neighbors=2)
        1.0
    """
    check_count("num_neighbors", num_neighbors, 1)
    if check_amount("temperature", temperature) == 0:
        raise ValueError("temperature=0 must be positive")
    for name, pair in (("train", train), ("test", test)):
        rows, labels = check_pair(name, pair)
        check_finite(f"{name}[0]", rows)
        check_range(f"{name}[1]", labels)
    check_same_width("test[0]", test[0], "train[0]", train[0].shape[1])
    place, classes = float64_device(test[0].device), int(train[1].max()) + 1
    known, labels = train[0].detach().to(place), train[1].to(place).long()
    queries, answers = test[0].detach().to(place), test[1].to(place)
    hits = count_hits((known, labels), (queries, answers), classes, num_neighbors, temperature)
    return int(hits) / len(queries)


def count_hits(
    train: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor],
    classes: int,
    num_neighbors: int,
    temperature: float,
) -> Tensor:
    """Number of right votes, int64 []; nothing waits for the device of the tensors.

    Args:
        train: features [N, D] and labels [N] in [0, ``classes``).
        test: features [M, D] and labels [M], on the same device.
        classes: number of labels.
        num_neighbors: see :func:`knn_accuracy`.
        temperature: see :func:`knn_accuracy`.
    """
    (count, width), device = train[0].shape, train[0].device
    side, k = Cosines(test[0], train[0]), min(num_neighbors, count)
    size = queries_at_once(device, count, width)
    hits = torch.zeros((), dtype=torch.int64, device=device)
    for start in range(0, len(test[0]), size):
        cosines, places = nearest(side.block(start, size), k)
        labels = test[1][start : start + size]
        # a vote has the weight exp(cosine / temperature); a factor a query changes no vote
        weights = ((cosines - cosines.amax(dim=1, keepdim=True)) / temperature).exp()
        labels_near = train[1][places]
        votes = cosines.new_zeros(len(labels), classes)
        for voter, weight in zip(
            torch.split(labels_near, 1, 1), torch.split(weights, 1, 1), strict=True
        ):
            # scatter_add_ adds in no fixed order on an accelerator
            votes.scatter_(1, voter, votes.gather(1, voter) + weight)
        hits += (votes.argmax(dim=1) == labels).sum()
    return hits
