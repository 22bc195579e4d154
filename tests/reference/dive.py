"""DiVE's image term, one image and one feature at a time."""

from __future__ import annotations

import torch
from torch import Tensor


def dive(student: Tensor, teacher: Tensor, mean: Tensor) -> Tensor:
    """The loss of a batch for a given running mean."""
    total = torch.zeros((), dtype=torch.float64)
    for own, other in zip(student, teacher, strict=True):
        for k in range(len(mean)):
            total = total + (own[k] - other[k] - mean[k]) ** 2 / len(student)
    return total


def running_mean(batches: list[tuple[Tensor, Tensor]], decay: float) -> Tensor:
    """Running mean of the difference vectors of several batches, from zero."""
    width = batches[0][0].shape[1]
    mean = [torch.zeros((), dtype=torch.float64) for _ in range(width)]
    for student, teacher in batches:
        for k in range(width):
            changes = [own[k] - other[k] for own, other in zip(student, teacher, strict=True)]
            mean[k] = decay * mean[k] + (1 - decay) * sum(changes) / len(changes)
    return torch.stack(mean)
