"""Distillation, one sample and one unit at a time."""

from __future__ import annotations

import torch
from torch import Tensor


def softened(logits: Tensor, temperature: float) -> list[Tensor]:
    """Softmax of one sample's logits over the temperature."""
    powers = [torch.exp(z / temperature) for z in logits]
    total = sum(powers, torch.zeros((), dtype=torch.float64))
    return [p / total for p in powers]


def distillation(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Mean over samples of sum_u q_u log(q_u / p_u)."""
    total = torch.zeros((), dtype=torch.float64)
    for own, other in zip(student, teacher, strict=True):
        p, q = softened(own, temperature), softened(other, temperature)
        for k in range(len(p)):
            total = total + q[k] * torch.log(q[k] / p[k])
    return total / len(student)
