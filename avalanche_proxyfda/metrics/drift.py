"""How far features have moved: distances between two models' features of the same images."""

from __future__ import annotations

import torch
from torch import Tensor

from avalanche_proxyfda.losses.base import check_count
from avalanche_proxyfda.losses.neighbors import unit_rows

_CHUNK = 1024  # images at a time, so that memory stays O(CHUNK x N)


def mean_l2(before: Tensor, after: Tensor) -> float:
    """Mean Euclidean distance that a unit-norm feature has moved, in [0, 2].

    Args:
        before: [N, D], features of N images.
        after: [N, D], of the same images.

    Raises:
        ValueError: for another shape, no rows, or features that are not finite.
    """
    first, second = _pair(before, after, same_width=True)
    return float((unit_rows(first) - unit_rows(second)).norm(dim=1).mean())


def linear_cka(before: Tensor, after: Tensor) -> float:
    """Linear centred kernel alignment in [0, 1]; 1 under rotation and common scale.

    Kornblith et al., *Similarity of neural network representations revisited*, ICML 2019.

    Args:
        before: [N, D].
        after: [N, D'], of the same images.

    Raises:
        ValueError: for other shapes, fewer than two rows, features that are not finite, or
            that are the same for all images.
    """
    first, second = (x - x.mean(dim=0) for x in _pair(before, after, least=2))
    scales = [float(x.norm()) for x in (first, second)]
    if min(scales) == 0:
        raise ValueError("features are the same for every image: CKA has no meaning")
    first, second = first / scales[0], second / scales[1]
    if len(first) < max(first.shape[1], second.shape[1]):
        left, right = first @ first.T, second @ second.T  # N x N is the smaller
        return float((left * right).sum() / (left.norm() * right.norm()))
    cross = (first.T @ second).square().sum()
    return float(cross / ((first.T @ first).norm() * (second.T @ second).norm()))


def neighbor_overlap(before: Tensor, after: Tensor, num_neighbors: int = 10) -> float:
    """Mean share of each image's nearest neighbours that are its neighbours still, in [0, 1].

    This is what FDA claims to preserve. Neighbours are by cosine, the image itself left out.
    Two random graphs share K / (N - 1).

    Args:
        before: [N, D].
        after: [N, D'], of the same images.
        num_neighbors: K, below N.

    Raises:
        ValueError: for other shapes, K that is not below N, or features that are not finite.
    """
    first, second = _pair(before, after, least=2)
    if check_count("num_neighbors", num_neighbors, 1) >= len(first):
        raise ValueError(
            f"num_neighbors={num_neighbors} must be below the number of images, {len(first)}"
        )
    units = unit_rows(first), unit_rows(second)
    kept = 0
    for start in range(0, len(first), _CHUNK):
        near = [_neighbors(unit, start, num_neighbors) for unit in units]
        kept += int((near[0] & near[1]).sum())
    return kept / (len(first) * num_neighbors)


def _neighbors(unit: Tensor, start: int, k: int) -> Tensor:
    """[CHUNK, N] bool: the k nearest neighbours of the rows from ``start`` on."""
    cosines = unit[start : start + _CHUNK] @ unit.T
    own = torch.arange(len(cosines))
    cosines[own, own + start] = -torch.inf
    marks = torch.zeros_like(cosines, dtype=torch.bool)
    return marks.scatter_(1, cosines.topk(k, dim=1).indices, True)


def _pair(
    before: Tensor, after: Tensor, least: int = 1, same_width: bool = False
) -> tuple[Tensor, Tensor]:
    """Both in float64, checked."""
    shapes = tuple(before.shape), tuple(after.shape)
    if before.ndim != 2 or after.ndim != 2 or len(before) != len(after):
        raise ValueError(f"before {shapes[0]} and after {shapes[1]} must be [N, D] of the same N")
    if same_width and shapes[0] != shapes[1]:
        raise ValueError(f"before {shapes[0]} and after {shapes[1]} must have the same width")
    if len(before) < least:
        raise ValueError(f"before and after have {len(before)} rows; {least} are needed")
    rows = before.detach().double(), after.detach().double()
    for name, x in zip(("before", "after"), rows, strict=True):
        if not bool(x.isfinite().all()):
            raise ValueError(f"{name} holds NaN or Inf")
    return rows
