"""FDA by the letter of the formula: one pair at a time, on 0-dim float64 tensors."""

from __future__ import annotations

import torch
from torch import Tensor


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Cosine of two vectors; 0 when either is zero."""
    dot = sum((a[k] * b[k] for k in range(len(a))), torch.zeros((), dtype=torch.float64))
    length_a = sum((a[k] ** 2 for k in range(len(a))), torch.zeros((), dtype=torch.float64))
    length_b = sum((b[k] ** 2 for k in range(len(b))), torch.zeros((), dtype=torch.float64))
    if length_a == 0 or length_b == 0:
        return torch.zeros((), dtype=torch.float64)
    return dot / (length_a.sqrt() * length_b.sqrt())


def ranked(teacher: Tensor, i: int) -> list[int]:
    """The other rows from the most to the least similar to row ``i``."""
    rest = [j for j in range(len(teacher)) if j != i]
    return sorted(rest, key=lambda j: -float(cosine(teacher[i], teacher[j])))


def weight(similarity: Tensor, positive: bool, mode: str) -> Tensor:
    """Signed edge weight: the paper's ("similarity", "unit") and two others."""
    one = torch.ones((), dtype=torch.float64)
    if mode == "unit":
        return one if positive else -one
    if positive:
        return similarity
    if mode == "one-minus":
        return -(one - similarity)
    if mode == "clamped" and similarity <= 0:
        return 0 * similarity
    return -similarity


def term(w: Tensor, cos: Tensor, inverse_tau: Tensor, bias: Tensor) -> Tensor:
    """log(1 + exp(-w (cos / tau + b)))."""
    return torch.log(1 + torch.exp(-w * (cos * inverse_tau + bias)))


def fda(
    student: Tensor, teacher: Tensor, k: int, inverse_tau: Tensor, bias: Tensor, mode: str
) -> Tensor:
    """The loss of a batch."""
    b = len(student)
    total = torch.zeros((), dtype=torch.float64)
    for i in range(b):
        near = ranked(teacher, i)[: min(k, b - 1)]
        for j in range(b):
            if j == i:
                continue
            w = weight(cosine(teacher[i], teacher[j]), j in near, mode)
            total = total + term(w, cosine(student[i], student[j]), inverse_tau, bias) / (b - 1)
    return total / b
