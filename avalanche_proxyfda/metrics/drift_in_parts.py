"""Drift in parts of the images, as accelerators compute it: bounded memory, and no waiting.

The values are those of :mod:`~avalanche_proxyfda.metrics.drift` on the CPU except for rounding
in float64.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from avalanche_proxyfda._float64 import rows_at_once
from avalanche_proxyfda._tensors import unit_rows

_COPIES = 6  # float64 copies of a part that are alive at once, of either side


def distance_in_parts(before: Tensor, after: Tensor) -> Tensor:
    """Mean distance of unit rows before and after, [N, D] each; float64 []."""
    total = after.new_zeros((), dtype=torch.float64)
    for first, second in _parts(before, after):
        total += (unit_rows(first) - unit_rows(second)).norm(dim=1).sum()
    return total / len(after)


def alignment_in_parts(before: Tensor, after: Tensor) -> Tensor:
    """Linear centred kernel alignment of [N, D] and [N, D']; float64 [], NaN without variance."""
    # the largest entry becomes 1, so that no fourth power overflows, and the first image becomes
    # the origin, so that features without variance are exactly 0
    scales = [x.abs().amax().double() for x in (before, after)]
    origins = [x[:1].double() / scale for x, scale in zip((before, after), scales, strict=True)]
    sums = [torch.zeros_like(origin) for origin in origins]
    for part in _parts(before, after):
        for total, x, scale, origin in zip(sums, part, scales, origins, strict=True):
            total += (x / scale - origin).sum(dim=0)
    means = [total / len(after) for total in sums]
    widths = before.shape[1], after.shape[1]
    own = [sums[0].new_zeros(width, width) for width in widths]
    cross = sums[0].new_zeros(widths)
    for part in _parts(before, after):
        first, second = (
            x / scale - origin - mean
            for x, scale, origin, mean in zip(part, scales, origins, means, strict=True)
        )
        own[0].addmm_(first.T, first)
        own[1].addmm_(second.T, second)
        cross.addmm_(first.T, second)
    value: Tensor = cross.square().sum() / (own[0].norm() * own[1].norm())
    return value


def _parts(before: Tensor, after: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Parts of both in float64, [n, D] and [n, D']."""
    size = rows_at_once(8 * _COPIES * (before.shape[1] + after.shape[1]))
    for first, second in zip(torch.split(before, size), torch.split(after, size), strict=True):
        yield first.double(), second.double()
