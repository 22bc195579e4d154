"""Feature drift: distances between two models' features of the same images, and their table.

The device of the features after computes in float64, or the CPU for a device without float64. An
accelerator works in parts. Their temporary values fit into 256 MiB. Unit rows of the neighbours
take at most a third of that more, and CKA has three matrices of D x D. The host waits for the
accelerator only in the checks and for the result. The optimal-transport distance runs on the CPU.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from avalanche_proxyfda._checks import check_count
from avalanche_proxyfda._float64 import float64_device
from avalanche_proxyfda._labelled import check_features, check_finite, check_labels
from avalanche_proxyfda._tensors import unit_rows
from avalanche_proxyfda.metrics.drift_in_parts import alignment_in_parts, distance_in_parts
from avalanche_proxyfda.metrics.nearest import Cosines, mark_nearest, queries_at_once
from avalanche_proxyfda.metrics.otdd import otdd

_CONSTANT = "features are the same for every image: CKA has no meaning"


def mean_l2(before: Tensor, after: Tensor) -> float:
    """Mean Euclidean distance between unit-norm features before and after, in [0, 2].

    Args:
        before: [N, D] features of N images.
        after: [N, D] features of the same images.

    Raises:
        TypeError: when features are no tensors.
        ValueError: when a shape differs, no row is given, or a feature is not finite.

    Example:
        >>> import torch
        >>> from avalanche_proxyfda.metrics import mean_l2
        >>> before = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
        >>> mean_l2(before, 3 * before), mean_l2(before, -before)  # directions alone count
        (0.0, 2.0)
    """
    first, second = _placed(before, after, same_width=True)
    if first.device.type != "cpu":
        return float(distance_in_parts(first, second))
    first, second = first.double(), second.double()
    return float((unit_rows(first) - unit_rows(second)).norm(dim=1).mean())


def linear_cka(before: Tensor, after: Tensor) -> float:
    """Linear centred kernel alignment in [0, 1]; 1 under rotation and common scale.

    Kornblith et al., *Similarity of neural network representations revisited*, ICML 2019.

    Args:
        before: [N, D] features of N images.
        after: [N, D'] features of the same images.

    Raises:
        TypeError: when features are no tensors.
        ValueError: when the shapes do not fit, fewer than two rows are given, a feature is not
            finite, or all images have the same feature.

    Example:
        >>> import torch
        >>> from avalanche_proxyfda.metrics import linear_cka
        >>> before = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])  # two pairs
        >>> round(linear_cka(before, 3 * before.flip(1)), 3)  # reflected and scaled
        1.0
        >>> round(linear_cka(before, before[[0, 2, 1, 3]]), 3)  # other pairs
        0.0
    """
    first, second = _placed(before, after, least=2)
    if first.device.type != "cpu":
        value = float(alignment_in_parts(first, second))
        if math.isnan(value):  # without variance
            raise ValueError(_CONSTANT)
        return value
    first, second = (x - x.mean(dim=0) for x in (first.double(), second.double()))
    scales = [float(x.norm()) for x in (first, second)]
    if min(scales) == 0:
        raise ValueError(_CONSTANT)
    first, second = first / scales[0], second / scales[1]
    if len(first) < max(first.shape[1], second.shape[1]):
        left, right = first @ first.T, second @ second.T  # N x N is the smaller
        return float((left * right).sum() / (left.norm() * right.norm()))
    cross = (first.T @ second).square().sum()
    return float(cross / ((first.T @ first).norm() * (second.T @ second).norm()))


def neighbor_overlap(before: Tensor, after: Tensor, num_neighbors: int = 10) -> float:
    """Mean share of each image's nearest neighbours before that are neighbours after, in [0, 1].

    FDA claims to preserve this share. The cosine ranks the neighbours; an image is no neighbour
    of itself. Two random graphs share K / (N - 1).

    Args:
        before: [N, D] features of N images.
        after: [N, D'] features of the same images.
        num_neighbors: K, below N.

    Raises:
        TypeError: when features are no tensors, or K is no int.
        ValueError: when the shapes do not fit, K is not below N, or a feature is not finite.

    Example:
        >>> import torch
        >>> from avalanche_proxyfda.metrics import neighbor_overlap
        >>> before = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]])  # two pairs
        >>> neighbor_overlap(before, before.flip(1), num_neighbors=1)
        1.0
        >>> neighbor_overlap(before, before[[0, 2, 1, 3]], num_neighbors=1)
        0.0
    """
    first, second = _placed(before, after, least=2)
    if check_count("num_neighbors", num_neighbors, 1) >= len(first):
        raise ValueError(
            f"num_neighbors={num_neighbors} must be below the number of images, {len(first)}"
        )
    return int(count_shared(first, second, num_neighbors)) / (len(first) * num_neighbors)


def count_shared(before: Tensor, after: Tensor, num_neighbors: int) -> Tensor:
    """Number of neighbours that both have, int64 []; nothing waits for the tensors' device.

    Equally near images: see :mod:`~avalanche_proxyfda.metrics.nearest`.

    Args:
        before: [N, D] features of N images.
        after: [N, D'] features of the same images, on the same device.
        num_neighbors: K, below N.
    """
    sides = Cosines(before, before), Cosines(after, after)
    width = max(before.shape[1], after.shape[1])
    size = queries_at_once(after.device, len(after), width)
    shared = torch.zeros((), dtype=torch.int64, device=after.device)
    for start in range(0, len(after), size):
        near = [_neighbors(side, start, size, num_neighbors) for side in sides]
        shared += (near[0] & near[1]).sum()
    return shared


@dataclass(frozen=True)
class Measure:
    """One measure of drift.

    Attributes:
        distance: function of the features before [N, D], the features after [N, D'], the labels
            [N] of the same images, and the number of neighbours K. It raises ValueError where
            the measure has no meaning.
        suffix: the part of the metric's name after ``Drift``, such as ``_L2``.
        optional: True when the measure is slow or needs an extra; it then has to be asked for.

    Example:
        >>> import torch
        >>> from avalanche_proxyfda.metrics import MEASURES, Measure
        >>> MEASURES["l2"].suffix, MEASURES["otdd-kmeans"].optional
        ('_L2', True)
        >>> most = Measure(lambda before, after, labels, k: float((after - before).max()), "_Max")
        >>> most.distance(torch.zeros(2, 3), torch.eye(2, 3), torch.tensor([0, 1]), 1)
        1.0
    """

    distance: Callable[[Tensor, Tensor, Tensor, int], float]
    suffix: str
    optional: bool = False


MEASURES: dict[str, Measure] = {
    "l2": Measure(lambda before, after, labels, k: mean_l2(before, after), "_L2"),
    "cka": Measure(lambda before, after, labels, k: linear_cka(before, after), "_CKA"),
    "neighbors": Measure(
        lambda before, after, labels, k: neighbor_overlap(before, after, k), "_Neighbors"
    ),
    # records from before k-means hold OTDD of the class labels as "otdd": another quantity
    "otdd-kmeans": Measure(
        lambda before, after, labels, k: otdd(before, labels, after, labels),
        "_OTDD_KMeans",
        optional=True,
    ),
}
"""Every measure of drift by its name, in the order in which metrics and records hold them."""


def measure_names(optional: bool = False) -> tuple[str, ...]:
    """Names of the measures; those of the optional measures too if ``optional`` is True.

    Example:
        >>> from avalanche_proxyfda.metrics import measure_names
        >>> measure_names()
        ('l2', 'cka', 'neighbors')
        >>> measure_names(optional=True)[3:]
        ('otdd-kmeans',)
    """
    return tuple(name for name, measure in MEASURES.items() if optional or not measure.optional)


def check_measures(measures: Sequence[str]) -> tuple[str, ...]:
    """Return ``measures`` without repeats.

    Raises:
        ValueError: when there is none, or a name is unknown; the message has the nearest name.
    """
    known = tuple(MEASURES)
    if not measures:
        raise ValueError(f"measures={measures!r} is empty; give at least one of {known}")
    for name in measures:
        if name not in MEASURES:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
            raise ValueError(
                f"measures={measures!r}: {name!r} is unknown; "
                + (f"did you mean {near[0]!r}? " if near else "")
                + f"choose from {known}"
            )
    return tuple(dict.fromkeys(measures))


def drift_between(
    before: Tensor,
    after: Tensor,
    labels: Tensor,
    measures: Sequence[str],
    num_neighbors: int = 10,
) -> dict[str, float]:
    """Drift from ``before`` to ``after``, by the name of the measure.

    Args:
        before: [N, D] features of N images.
        after: [N, D'] features of the same images.
        labels: [N] labels of the images.
        measures: names of :data:`MEASURES`.
        num_neighbors: K of the measure ``neighbors``.

    Raises:
        TypeError: when features or labels are no tensors.
        ValueError: when a name is unknown, the shapes do not fit, or a measure has no meaning for
            these features.
        ImportError: when a measure needs an extra that is not installed.

    Example:
        >>> import torch
        >>> from avalanche_proxyfda.metrics import drift_between
        >>> before = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]])
        >>> labels = torch.tensor([0, 0, 1, 1])
        >>> drift = drift_between(before, -before, labels, ("l2", "neighbors"), num_neighbors=1)
        >>> {name: round(value, 3) for name, value in drift.items()}
        {'l2': 2.0, 'neighbors': 1.0}
    """
    names = check_measures(measures)
    _check_same_images(before, after)
    check_labels("labels", labels, "before", len(before), integers=False)
    return {name: MEASURES[name].distance(before, after, labels, num_neighbors) for name in names}


def defined_drift(
    before: Tensor,
    after: Tensor,
    labels: Tensor,
    measures: Sequence[str],
    num_neighbors: int = 10,
) -> dict[str, float | None]:
    """As :func:`drift_between`, with None for each measure that has no meaning.

    A measure has no meaning for too few images, for features that are not finite, or for
    features that are the same for all images.

    Raises:
        TypeError: when features or labels are no tensors.
        ValueError: when a name is unknown, or ``before``, ``after`` and ``labels`` are not of the
            same N images.
        ImportError: when a measure needs an extra that is not installed.

    Example:
        >>> import torch
        >>> from avalanche_proxyfda.metrics import defined_drift
        >>> same, labels = torch.ones(3, 2), torch.tensor([0, 0, 1])  # one feature for all images
        >>> defined_drift(same, same, labels, ("l2", "cka"))
        {'l2': 0.0, 'cka': None}
    """
    values: dict[str, float | None] = {}
    names = check_measures(measures)
    _check_same_images(before, after)
    check_labels("labels", labels, "before", len(before), integers=False)
    for name in names:
        try:
            values.update(drift_between(before, after, labels, (name,), num_neighbors))
        except ValueError:
            values[name] = None
    return values


def _neighbors(side: Cosines, start: int, size: int, k: int) -> Tensor:
    """[size, N] bool: the k nearest neighbours of the rows from ``start`` on."""
    cosines = side.block(start, size)
    cosines.diagonal(offset=start).fill_(-torch.inf)
    return mark_nearest(cosines, k)


def _placed(
    before: Tensor, after: Tensor, least: int = 1, same_width: bool = False
) -> tuple[Tensor, Tensor]:
    """Both tensors where float64 is computed, after their shapes and values are checked."""
    _check_same_images(before, after)
    shapes = tuple(before.shape), tuple(after.shape)
    if same_width and shapes[0] != shapes[1]:
        raise ValueError(
            f"before {shapes[0]} and after {shapes[1]} must have the same width: give features of "
            "one place of the model"
        )
    if len(before) < least:
        raise ValueError(
            f"before and after have {len(before)} rows; {least} are needed: give the features of "
            "more images"
        )
    place = float64_device(after.device)
    rows = before.detach().to(place), after.detach().to(place)
    for name, x in zip(("before", "after"), rows, strict=True):
        check_finite(name, x)
    return rows


def _check_same_images(before: Tensor, after: Tensor) -> None:
    """Raise TypeError or ValueError unless both are tensors [N, D] and [N, D'] of the same N."""
    check_features("before", before, 0)
    check_features("after", after, 0)
    if len(before) != len(after):
        raise ValueError(
            f"before {tuple(before.shape)} and after {tuple(after.shape)} must be [N, D] of the "
            "same N: give the features of the same images"
        )
