"""PKT, one pair of samples at a time."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tests.reference.fda import cosine

ZERO = torch.zeros((), dtype=torch.float64)


def kernel_of(similarity: Tensor, kernel: str, scale: float) -> Tensor:
    """Kernel of a pair."""
    return (scale * similarity).exp() if kernel == "softmax" else (similarity + 1) / 2


def pkt(student: Tensor, teacher: Tensor, kernel: str = "softmax", scale: float = 10.0) -> Tensor:
    """The loss of a batch."""
    count, total = len(student), ZERO
    for i in range(count):
        others = [j for j in range(count) if j != i]
        own = {j: kernel_of(cosine(student[i], student[j]), kernel, scale) for j in others}
        known = {j: kernel_of(cosine(teacher[i], teacher[j]), kernel, scale) for j in others}
        own_sum, known_sum = sum(own.values()), sum(known.values())
        for j in others:
            p, q = float(known[j] / known_sum), own[j] / own_sum
            if p > 0:
                total = total + p * (math.log(p) - q.log()) / count
    return total
