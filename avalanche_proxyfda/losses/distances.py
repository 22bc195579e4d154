"""Euclidean distances of all pairs of rows, with a backward that forms no [B, B, D]."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from avalanche_proxyfda.losses.chunks import block_bytes, on_accelerator


def pair_distances(rows: Tensor) -> Tensor:
    """Return the Euclidean distances of all pairs of rows.

    The gradient of a distance of 0 is 0. Equal rows are at distance 0, whatever their size:
    the function subtracts rows and does not expand the square, which loses the digits of small
    distances.

    Args:
        rows: [B, D], float32 or float64.

    Returns:
        [B, B].
    """
    if on_accelerator(rows.device):
        distance: Tensor = _PairDistances.apply(rows)
        return distance
    return _cdist(rows)  # the CPU's own backward allocates [B, D] alone


def _cdist(rows: Tensor) -> Tensor:
    return torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist")


class _PairDistances(torch.autograd.Function):
    """:func:`pair_distances` for accelerators: backward holds O(B^2) numbers and one block.

    The backward of ``torch.cdist`` on CUDA allocates [B, B, D], 48 GiB at B = 4096, D = 768.
    Here the gradient of row i is sum_j (g_ij + g_ji) (x_i - x_j) / d_ij. The rows i are
    processed in chunks, whose differences [C, B, D] fill one block
    (:func:`~avalanche_proxyfda.losses.chunks.block_bytes`). One product of matrices would need
    no chunk, but it cancels the digits of rows that are close to each other.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        distance = _cdist(rows)
        ctx.save_for_backward(rows, distance)
        return distance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        rows, distance = ctx.saved_tensors
        # a subgradient of the norm at 0 is 0
        pull = ((grad + grad.T) / distance).masked_fill(distance == 0, 0.0)
        size = max(1, block_bytes(rows.device) // (rows.element_size() * rows.numel()))
        parts = [
            torch.bmm(pulls.unsqueeze(1), own.unsqueeze(1) - rows).squeeze(1)
            for pulls, own in zip(pull.split(size), rows.split(size), strict=True)
        ]
        return torch.cat(parts)
