"""Cross-entropy with smoothed labels, one sample and one class at a time."""

from __future__ import annotations

import torch
from torch import Tensor


def smoothed(logits: Tensor, labels: list[int], classes: list[int], smoothing: float) -> Tensor:
    """Mean over samples of -sum_k q_k log(p_k).

    q_k is smoothing / K, plus 1 - smoothing for the label. The sample's K classes are the first
    ones, and p is the softmax over them alone.
    """
    total = torch.zeros((), dtype=torch.float64)
    for row, label, count in zip(logits, labels, classes, strict=True):
        powers = [torch.exp(row[k]) for k in range(count)]
        for k in range(count):
            q = smoothing / count + (1 - smoothing if k == label else 0)
            total = total - q * torch.log(powers[k] / sum(powers))
    return total / len(labels)
