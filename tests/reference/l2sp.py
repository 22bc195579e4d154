"""L2-SP, one number at a time."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def l2sp(weights: Sequence[Tensor], anchors: Sequence[Tensor]) -> Tensor:
    """Sum of squared differences."""
    total = torch.zeros((), dtype=torch.float64)
    for weight, anchor in zip(weights, anchors, strict=True):
        for a, b in zip(weight.flatten(), anchor.flatten(), strict=True):
            total = total + (a - b) ** 2
    return total
