"""The optimal-transport distance between two labelled data sets."""

from __future__ import annotations

import torch
from torch import Tensor

from avalanche_proxyfda._checks import check_count
from avalanche_proxyfda._random import generator
from avalanche_proxyfda._tensors import unit_rows


def otdd(
    before: Tensor,
    before_labels: Tensor,
    after: Tensor,
    after_labels: Tensor,
    max_points: int = 2000,
) -> float:
    """OTDD of two labelled sets of features (Alvarez-Melis and Fusi, NeurIPS 2020), p = 2.

    Moving one point to another costs their squared distance plus the squared 2-Wasserstein
    distance between the Gaussians of their classes. The result is the square root of the
    cheapest transport's cost. Features are normalised to unit norm. The distance is symmetric,
    and 0 for equal sets.

    Args:
        before: [N, D] features of the first set.
        before_labels: [N] labels of the first set.
        after: [M, D] features of the second set.
        after_labels: [M] labels of the second set.
        max_points: a larger set is subsampled to this many points, with a fixed seed.

    Raises:
        ValueError: when shapes do not fit, a set is empty, or a feature is not finite.
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
    """Unit-norm rows in float64 and their labels, both on the CPU."""
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
    """At most ``most`` points, and their classes renumbered from 0 without gaps."""
    if len(rows) > most:
        kept = torch.randperm(len(rows), generator=generator("otdd"))[:most].sort().values
        rows, labels = rows[kept], labels[kept]
    return rows, torch.unique(labels, return_inverse=True)[1]


def _factors(rows: Tensor, classes: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Mean [D] and factor A [n, D] of each class; its covariance is A^T A."""
    factors = []
    for c in range(int(classes.max()) + 1):
        members = rows[classes == c]
        mean = members.mean(dim=0)
        factors.append((mean, (members - mean) / len(members) ** 0.5))
    return factors


def _gaussian_costs(
    first: list[tuple[Tensor, Tensor]], second: list[tuple[Tensor, Tensor]]
) -> Tensor:
    """[C, C'] squared Bures-Wasserstein distances.

    The distance holds the trace of a matrix square root. This trace is the nuclear norm of
    A B^T, so no D x D matrix is decomposed.
    """
    costs = torch.zeros(len(first), len(second), dtype=torch.float64)
    for i, (mean, factor) in enumerate(first):
        for j, (other_mean, other) in enumerate(second):
            spread = factor.square().sum() + other.square().sum()
            shared = torch.linalg.svdvals(factor @ other.T).sum()
            costs[i, j] = (mean - other_mean).square().sum() + (spread - 2 * shared).clamp(min=0)
    return costs
