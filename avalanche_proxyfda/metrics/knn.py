"""k-nearest-neighbour classification of frozen features."""

from __future__ import annotations

import torch
from torch import Tensor

from avalanche_proxyfda._checks import check_amount, check_count
from avalanche_proxyfda._tensors import unit_rows

_CHUNK = 1024  # queries at a time, so that memory stays O(CHUNK x N)


def knn_accuracy(
    train: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor],
    num_neighbors: int = 20,
    temperature: float = 0.07,
) -> float:
    """Accuracy of the vote of the nearest training features, weighted by exp(cosine / temperature).

    Wu et al., *Unsupervised feature learning via non-parametric instance discrimination*,
    CVPR 2018. The vote has no parameters and no randomness. The smaller label wins a tie.

    Args:
        train: features [N, D] and labels [N].
        test: features [M, D] and labels [M].
        num_neighbors: K; if N is below K, all training features vote.
        temperature: divides the cosines; positive.

    Raises:
        ValueError: when a set is empty, shapes do not fit, a feature is not finite, or an option
            is out of range.
    """
    check_count("num_neighbors", num_neighbors, 1)
    if check_amount("temperature", temperature) == 0:
        raise ValueError("temperature=0 must be positive")
    for name, (rows, labels) in (("train", train), ("test", test)):
        if rows.ndim != 2 or labels.shape != rows.shape[:1] or len(rows) == 0:
            raise ValueError(
                f"{name} has features {tuple(rows.shape)} and labels {tuple(labels.shape)}; "
                "expected [N, D] and [N], with at least one row"
            )
        if not bool(rows.isfinite().all()):
            raise ValueError(f"the features of {name} hold NaN or Inf")
    known, queries = (unit_rows(rows.detach().double()) for rows, _ in (train, test))
    k, classes = min(num_neighbors, len(known)), int(train[1].max()) + 1
    hits = 0
    for part, labels in zip(
        torch.split(queries, _CHUNK), torch.split(test[1], _CHUNK), strict=True
    ):
        near = (part @ known.T).topk(k, dim=1)
        weights = ((near.values - 1) / temperature).exp()  # at most 1
        votes = part.new_zeros(len(part), classes)
        votes.scatter_add_(1, train[1][near.indices], weights)
        hits += int((votes.argmax(dim=1) == labels).sum())
    return hits / len(queries)
