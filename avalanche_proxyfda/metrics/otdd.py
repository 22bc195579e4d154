"""The optimal-transport distance between two labelled data sets."""

from __future__ import annotations

import torch
from torch import Tensor

from avalanche_proxyfda.losses.base import check_count
from avalanche_proxyfda.losses.neighbors import unit_rows
from avalanche_proxyfda.rng import generator


def otdd(
    before: Tensor,
    before_labels: Tensor,
    after: Tensor,
    after_labels: Tensor,
    max_points: int = 2000,
) -> float:
    """OTDD of two labelled sets of features (Alvarez-Melis and Fusi, NeurIPS 2020), p = 2.

    A point costs its squared distance plus the squared 2-Wasserstein distance between the
    Gaussians of the two classes; the result is the square root of the cheapest transport.
    Features are taken at unit norm. It is 0 for equal sets, and symmetric.

    Args:
        before: [N, D].
        before_labels: [N].
        after: [M, D].
        after_labels: [M].
        max_points: larger sets are thinned to this many, by a lot that is always the same.

    Raises:
        ValueError: for shapes that do not fit, empty sets, or features that are not finite.
        ImportError: when POT is not installed.
    """
    try:
        import ot
    except ImportError as error:
        raise ImportError("otdd needs POT: pip install 'avalanche-proxyfda[ot]'") from error
    check_count("max_points", max_points, 2)
    sets = [
        _thinned(*_checked(name, x, y), max_points)
        for name, x, y in (("before", before, before_labels), ("after", after, after_labels))
    ]
    (first, first_classes), (second, second_classes) = sets
    if first.shape[1] != second.shape[1]:
        raise ValueError(f"before has width {first.shape[1]}, after {second.shape[1]}")
    label_costs = _gaussian_costs(_factors(first, first_classes), _factors(second, second_classes))
    costs = torch.cdist(first, second, compute_mode="donot_use_mm_for_euclid_dist").square()
    costs = costs + label_costs[first_classes][:, second_classes]
    masses = [torch.full((len(x),), 1 / len(x), dtype=torch.float64) for x in (first, second)]
    value = ot.emd2(masses[0].numpy(), masses[1].numpy(), costs.numpy(), numItermax=10_000_000)
    return float(max(float(value), 0.0) ** 0.5)


def _checked(name: str, rows: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    if rows.ndim != 2 or labels.shape != rows.shape[:1] or len(rows) == 0:
        raise ValueError(
            f"{name} has shape {tuple(rows.shape)} and its labels {tuple(labels.shape)}; expected "
            "[N, D] and [N], with at least one row"
        )
    if not bool(rows.isfinite().all()):
        raise ValueError(f"{name} holds NaN or Inf")
    unit = unit_rows(rows.detach().cpu().double())
    return unit, labels.detach().cpu()


def _thinned(rows: Tensor, labels: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """At most ``most`` points, and their classes numbered from 0 without holes."""
    if len(rows) > most:
        kept = torch.randperm(len(rows), generator=generator("otdd"))[:most].sort().values
        rows, labels = rows[kept], labels[kept]
    return rows, torch.unique(labels, return_inverse=True)[1]


def _factors(rows: Tensor, classes: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Mean [D] and factor A [n, D] of each class; its covariance is A^T A."""
    made = []
    for c in range(int(classes.max()) + 1):
        own = rows[classes == c]
        mean = own.mean(dim=0)
        made.append((mean, (own - mean) / len(own) ** 0.5))
    return made


def _gaussian_costs(
    first: list[tuple[Tensor, Tensor]], second: list[tuple[Tensor, Tensor]]
) -> Tensor:
    """[C, C'] squared Bures-Wasserstein distances.

    The trace of the square root in it is the nuclear norm of A B^T, so no D x D matrix is
    ever decomposed.
    """
    costs = torch.zeros(len(first), len(second), dtype=torch.float64)
    for i, (mean, factor) in enumerate(first):
        for j, (other_mean, other) in enumerate(second):
            spread = factor.square().sum() + other.square().sum()
            shared = torch.linalg.svdvals(factor @ other.T).sum()
            costs[i, j] = (mean - other_mean).square().sum() + (spread - 2 * shared).clamp(min=0)
    return costs
