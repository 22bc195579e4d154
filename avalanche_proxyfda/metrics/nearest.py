"""Cosines in blocks, and their nearest columns, with one rule for ties on accelerators.

On the CPU, :func:`torch.topk` chooses among equally near columns. Its choice is not specified,
and recorded numbers depend on it. On an accelerator the smaller column wins, so that the choice
depends on no kernel.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from avalanche_proxyfda._float64 import WORKSPACE, rows_at_once
from avalanche_proxyfda._tensors import unit_rows

QUERIES = 1024
"""Rows of a matrix of cosines, so that memory stays O(QUERIES x N)."""
_BYTES = 48  # of a cosine: the float64 itself, masks, and the places that topk works on
_ROW = 24  # bytes of a feature while its row becomes a unit row: three float64


def queries_at_once(device: torch.device, columns: int, width: int) -> int:
    """Return the number of queries whose cosines with ``columns`` rows are computed at once.

    Args:
        device: an accelerator computes fewer than ``QUERIES`` if its workspace is too small.
        columns: N.
        width: D.
    """
    if device.type == "cpu":
        return QUERIES
    return min(QUERIES, rows_at_once(_BYTES * columns + _ROW * width))


class Cosines:
    """The cosines of queries with columns, a block of queries at a time.

    The CPU makes all rows unit rows once. An accelerator does so if this fits into half of the
    workspace; the unit rows of either side then take a sixth of it. Otherwise each block makes
    its queries unit rows, and the columns in parts.

    Args:
        queries: [M, D].
        columns: [N, D] on the same device; may be the queries.
    """

    def __init__(self, queries: Tensor, columns: Tensor) -> None:
        self._queries, self._columns = queries, columns
        self._part = rows_at_once(_ROW * columns.shape[1], WORKSPACE // 2)
        self._unit_columns = self._whole(columns)
        self._unit_queries = self._unit_columns if queries is columns else self._whole(queries)

    def _whole(self, rows: Tensor) -> Tensor | None:
        """Return the unit rows; None if an accelerator makes them in parts."""
        whole = rows.device.type == "cpu" or len(rows) <= self._part
        return unit_rows(rows.double()) if whole else None

    def block(self, start: int, size: int) -> Tensor:
        """Return the cosines of the queries from ``start`` on, float64 [size or fewer, N]."""
        count = min(size, len(self._queries) - start)
        if self._unit_queries is not None:
            units = self._unit_queries.narrow(0, start, count)
        else:
            units = unit_rows(self._queries.narrow(0, start, count).double())
        if self._unit_columns is not None:
            return units @ self._unit_columns.T
        return cosines_in_parts(units, self._columns, self._part)


def cosines_in_parts(units: Tensor, columns: Tensor, most: int) -> Tensor:
    """Return the cosines [Q, N] of unit rows [Q, D] with columns [N, D], in parts of the columns.

    All parts have one size, so that equal columns get equal cosines: the last part may begin
    within the part before.

    Args:
        units: float64.
        columns: float32, float16, bfloat16 or float64.
        most: columns at a time.
    """
    count = len(columns)
    part = math.ceil(count / math.ceil(count / most))
    cosines, last = units.new_empty(len(units), count), count - part
    for start in (*range(0, last, part), last):
        some = unit_rows(columns.narrow(0, start, part).double())
        cosines.narrow(1, start, part).copy_(units @ some.T)
    return cosines


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
