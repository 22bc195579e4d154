"""RKD, one pair and one triple at a time."""

from __future__ import annotations

import torch
from torch import Tensor

ZERO = torch.zeros((), dtype=torch.float64)


def smooth_l1(a: Tensor, b: Tensor) -> Tensor:
    """Quadratic below a gap of 1, linear above."""
    gap = abs(a - b)
    return gap**2 / 2 if gap < 1 else gap - 0.5


def length(v: Tensor) -> Tensor:
    """Euclidean norm, a constant 0 for the zero vector."""
    total = sum((x**2 for x in v), ZERO)
    return total.sqrt() if total > 0 else ZERO


def distances(rows: Tensor) -> list[list[Tensor]]:
    """All pairs' distances over the mean of the positive ones."""
    count = len(rows)
    plain = [[length(rows[i] - rows[j]) for j in range(count)] for i in range(count)]
    positive = [d for line in plain for d in line if d > 0]
    mean = sum(positive, ZERO) / len(positive) if positive else ZERO + 1
    return [[d / mean for d in line] for line in plain]


def angle(rows: Tensor, i: int, j: int, k: int) -> Tensor:
    """Cosine at i between j and k; 0 where an arm has no length."""
    a, b = rows[j] - rows[i], rows[k] - rows[i]
    long_a, long_b = length(a), length(b)
    if long_a == 0 or long_b == 0:
        return ZERO
    return sum((x * y for x, y in zip(a, b, strict=True)), ZERO) / (long_a * long_b)


def rkd(student: Tensor, teacher: Tensor, distance_weight: float, angle_weight: float) -> Tensor:
    """The loss of a batch."""
    count = len(student)
    own, other = distances(student), distances(teacher)
    far, turned = ZERO, ZERO
    for i in range(count):
        for j in range(count):
            far = far + smooth_l1(own[i][j], other[i][j]) / count**2
            for k in range(count):
                gap = smooth_l1(angle(student, i, j, k), angle(teacher, i, j, k))
                turned = turned + gap / count**3
    return distance_weight * far + angle_weight * turned
