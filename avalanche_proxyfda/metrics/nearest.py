"""The nearest columns of a matrix of cosines, with one rule for ties on accelerators.

On the CPU, :func:`torch.topk` chooses among equally near columns. Its choice is not specified,
and recorded numbers depend on it. On an accelerator the smaller column wins, so that the choice
depends on no kernel.
"""

from __future__ import annotations

import torch
from torch import Tensor

from avalanche_proxyfda._float64 import rows_at_once

QUERIES = 1024
"""Rows of a matrix of cosines, so that memory stays O(QUERIES x N)."""
_BYTES = 48  # of a cosine: the float64 itself, masks, and the places that topk works on


def queries_at_once(device: torch.device, columns: int) -> int:
    """Return the number of queries whose cosines with ``columns`` rows are computed at once.

    Args:
        device: an accelerator computes fewer than ``QUERIES`` if its workspace is too small.
        columns: N.
    """
    if device.type == "cpu":
        return QUERIES
    return min(QUERIES, rows_at_once(_BYTES * columns))


def mark_nearest(cosines: Tensor, count: int) -> Tensor:
    """Return [Q, N] bool, True at the ``count`` largest cosines [Q, N] of each row."""
    if cosines.device.type == "cpu":
        marks = torch.zeros_like(cosines, dtype=torch.bool)
        return marks.scatter_(1, cosines.topk(count, dim=1).indices, True)
    return mark_first(cosines, count)


def mark_first(cosines: Tensor, count: int) -> Tensor:
    """Return [Q, N] bool as :func:`mark_nearest`, where the smaller column wins a tie.

    Example:
        >>> import torch
        >>> from avalanche_proxyfda.metrics.nearest import mark_first
        >>> mark_first(torch.tensor([[0.5, 0.9, 0.5, 0.5]]), 2)
        tensor([[ True,  True, False, False]])
    """
    least = cosines.topk(count, dim=1).values[:, -1:]
    nearer, tied = cosines > least, cosines == least
    room = count - nearer.sum(dim=1, keepdim=True)
    return nearer | (tied & (tied.cumsum(dim=1) <= room))


def nearest(cosines: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the ``count`` largest cosines of each row of [Q, N], and their columns, [Q, count].

    The largest cosine comes first.
    """
    if cosines.device.type == "cpu":
        top = cosines.topk(count, dim=1)
        return top.values, top.indices
    return first_nearest(cosines, count)


def first_nearest(cosines: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return values and columns as :func:`nearest`, where the smaller column wins a tie.

    Example:
        >>> import torch
        >>> from avalanche_proxyfda.metrics.nearest import first_nearest
        >>> first_nearest(torch.tensor([[0.5, 0.9, 0.5, 0.5]]), 3)[1]
        tensor([[1, 0, 2]])
    """
    columns = torch.arange(cosines.shape[1], device=cosines.device)
    marked = torch.where(mark_first(cosines, count), columns, cosines.shape[1])
    places = marked.topk(count, dim=1, largest=False).values  # ascending columns
    values, order = cosines.gather(1, places).sort(dim=1, descending=True, stable=True)
    return values, places.gather(1, order)
