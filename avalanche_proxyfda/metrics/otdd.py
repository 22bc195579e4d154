"""The optimal-transport distance between two labelled data sets."""

from __future__ import annotations

import torch
from torch import Tensor

from avalanche_proxyfda._checks import check_count
from avalanche_proxyfda._labelled import (
    check_features,
    check_finite,
    check_labels,
    check_same_width,
)
from avalanche_proxyfda._random import generator
from avalanche_proxyfda._tensors import unit_rows
from avalanche_proxyfda.metrics.pseudo_labels import pseudo_labels


def otdd(
    before: Tensor,
    before_labels: Tensor,
    after: Tensor,
    after_labels: Tensor,
    max_points: int = 2000,
    clusters_per_class: int = 4,
) -> float:
    """OTDD of two labelled sets of features (Alvarez-Melis and Fusi, NeurIPS 2020), p = 2.

    As in Proxy-FDA (arXiv 2505.24088), pseudo-labels take the place of the labels: k-means
    splits each class, in each set by itself, into at most ``clusters_per_class`` clusters, see
    :func:`~avalanche_proxyfda.metrics.pseudo_labels.pseudo_labels`. Moving one point to another
    costs their squared distance plus the squared 2-Wasserstein distance between the Gaussians
    of their clusters. The result is the square root of the cheapest transport's cost. Features
    are normalised to unit norm. The distance is symmetric, and 0 for equal sets.

    POT and SciPy compute on the CPU. Of features on a device, the samples that stay are copied.

    The order of the samples changes nothing in sets of at most ``max_points``. In larger sets,
    the places of the samples that stay are fixed, so the order decides which samples stay.

    Args:
        before: [N, D] features of the first set.
        before_labels: [N] labels of the first set.
        after: [M, D] features of the second set.
        after_labels: [M] labels of the second set.
        max_points: a larger set is subsampled to this many points, with a fixed seed.
        clusters_per_class: the most clusters of a class; 1 takes the labels themselves.

    Raises:
        TypeError: when ``max_points`` or ``clusters_per_class`` is no int, or features or labels
            are no tensors.
        ValueError: when one of the two is too small, shapes do not fit, a set is empty, or a
            feature is not finite.
        ImportError: when POT is not installed.

    Example:
        >>> import torch
        >>> from avalanche_proxyfda.metrics import otdd
        >>> before, labels = torch.eye(2), torch.tensor([0, 1])
        >>> round(otdd(before, labels, before, labels), 3)
        0.0
        >>> round(otdd(before, labels, -before, labels), 3)  # sqrt of 2 for points + 2 for clusters
        2.0
    """
    try:
        import ot
    except ImportError as error:
        raise ImportError("otdd needs POT: pip install 'avalanche-proxyfda[ot]'") from error
    check_count("max_points", max_points, 2)
    check_count("clusters_per_class", clusters_per_class, 1)
    checked = [
        _checked(name, x, y)
        for name, x, y in (("before", before, before_labels), ("after", after, after_labels))
    ]
    check_same_width("after", after, "before", before.shape[1])
    (first, first_labels), (second, second_labels) = (
        _unit(*_thinned(x, y, max_points)) for x, y in checked
    )
    clusters, others = (
        pseudo_labels(x, y, clusters_per_class)
        for x, y in ((first, first_labels), (second, second_labels))
    )
    label_costs = _gaussian_costs(_factors(first, clusters), _factors(second, others))
    costs = torch.cdist(first, second, compute_mode="donot_use_mm_for_euclid_dist").square()
    costs = costs + label_costs[clusters][:, others]
    masses = [torch.full((len(x),), 1 / len(x), dtype=torch.float64) for x in (first, second)]
    value = ot.emd2(masses[0].numpy(), masses[1].numpy(), costs.numpy(), numItermax=10_000_000)
    return float(max(float(value), 0.0) ** 0.5)


def _checked(name: str, rows: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Rows and labels without gradient, after their shapes and values are checked."""
    check_features(name, rows)
    check_labels(f"{name}_labels", labels, name, len(rows), integers=False)
    check_finite(name, rows)
    return rows.detach(), labels.detach()


def _thinned(rows: Tensor, labels: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """At most ``most`` points and their labels."""
    if len(rows) > most:
        kept = torch.randperm(len(rows), generator=generator("otdd"))[:most].sort().values
        rows, labels = rows[kept.to(rows.device)], labels[kept.to(labels.device)]
    return rows, labels


def _unit(rows: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Unit-norm rows in float64 and their labels, both on the CPU."""
    return unit_rows(rows.cpu().double()), labels.cpu()


def _factors(rows: Tensor, clusters: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Mean [D] and factor A [n, D] of each cluster; its covariance is A^T A."""
    factors = []
    for c in range(int(clusters.max()) + 1):
        members = rows[clusters == c]
        mean = members.mean(dim=0)
        factors.append((mean, (members - mean) / len(members) ** 0.5))
    return factors


def _gaussian_costs(
    first: list[tuple[Tensor, Tensor]], second: list[tuple[Tensor, Tensor]]
) -> Tensor:
    """[C, C'] squared Bures-Wasserstein distances.

    The distance holds the trace of a matrix square root. This trace is the nuclear norm of
    A B^T, so no D x D matrix is decomposed. Clusters of the same size are decomposed at once.
    """
    means, others = (torch.stack([mean for mean, _ in side]) for side in (first, second))
    spreads, other_spreads = (
        torch.stack([factor.square().sum() for _, factor in side]) for side in (first, second)
    )
    shared = torch.zeros(len(first), len(second), dtype=torch.float64)
    for rows, left in _by_size(first):
        for columns, right in _by_size(second):
            products = torch.einsum("and,bmd->abnm", left, right)
            shared[rows[:, None], columns] = torch.linalg.svdvals(products).sum(dim=-1)
    gaps = torch.cdist(means, others, compute_mode="donot_use_mm_for_euclid_dist").square()
    return gaps + (spreads[:, None] + other_spreads - 2 * shared).clamp(min=0)


def _by_size(side: list[tuple[Tensor, Tensor]]) -> list[tuple[Tensor, Tensor]]:
    """Places [k] and factors [k, n, D] of the clusters of each size n."""
    sizes = [len(factor) for _, factor in side]
    groups = [[k for k, size in enumerate(sizes) if size == n] for n in sorted(set(sizes))]
    return [(torch.tensor(ks), torch.stack([side[k][1] for k in ks])) for ks in groups]
