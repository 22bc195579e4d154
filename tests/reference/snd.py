"""SND, one image at a time."""

from __future__ import annotations

import torch
from torch import Tensor

ZERO = torch.zeros((), dtype=torch.float64)


def square(v: Tensor) -> Tensor:
    """Squared Euclidean norm."""
    return sum((x**2 for x in v), ZERO)


def norm(v: Tensor) -> Tensor:
    """Euclidean norm, a constant 0 for the zero vector."""
    total = square(v)
    return total.sqrt() if total > 0 else ZERO


def unit(v: Tensor) -> Tensor:
    """Direction of a vector; the zero vector stays."""
    length = norm(v)
    return v / length if length > 0 else v * 0


def snd(
    student: Tensor,
    previous: Tensor,
    initial: Tensor,
    weights: tuple[float, float],
    threshold: float,
    sharpness: float,
    squared: bool,
    by_image: bool,
) -> Tensor:
    """The loss of a batch."""
    count, shares, near, far = len(student), [], [], []
    for own, before, first in zip(student, previous, initial, strict=True):
        own, before, first = unit(own), unit(before), unit(first)
        shares.append(1 / (1 + torch.exp(-sharpness * (norm(first - before) - threshold))))
        near.append(square(own - before) if squared else norm(own - before))
        far.append(square(own - first) if squared else norm(own - first))
    if not by_image:
        shares = [sum(shares, ZERO) / count] * count
    total = ZERO
    for share, close, wide in zip(shares, near, far, strict=True):
        total = total + weights[0] * share * close / count + weights[1] * (1 - share) * wide / count
    return total
