"""LDIFS by its published definition: one position, one channel at a time."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def _norm(numbers: Sequence[Tensor]) -> Tensor:
    total = sum((x**2 for x in numbers), torch.zeros((), dtype=torch.float64))
    return total.sqrt() if total > 0 else torch.ones((), dtype=torch.float64)


def normalised(tokens: Tensor, axis: str) -> list[list[Tensor]]:
    """One sample's tokens [T, D], each divided by the norm of its column or row."""
    count, width = tokens.shape
    columns = [_norm([tokens[t, d] for t in range(count)]) for d in range(width)]
    rows = [_norm([tokens[t, d] for d in range(width)]) for t in range(count)]
    return [
        [tokens[t, d] / (columns[d] if axis == "token" else rows[t]) for d in range(width)]
        for t in range(count)
    ]


def ldifs(student: Sequence[Tensor], teacher: Sequence[Tensor], axes: Sequence[str]) -> Tensor:
    """Mean over batch and maps of the mean squared difference; maps are tokens [B, T, D]."""
    batch = len(student[0])
    total = torch.zeros((), dtype=torch.float64)
    for i in range(batch):
        for own, other, axis in zip(student, teacher, axes, strict=True):
            a, b = normalised(own[i], axis), normalised(other[i], axis)
            count, width = own[i].shape
            for t in range(count):
                for d in range(width):
                    total = total + (a[t][d] - b[t][d]) ** 2 / (count * width)
    return total / (batch * len(student))
