"""Features and rotations for the tests of the losses."""

from __future__ import annotations

import torch
from torch import Tensor


def features(batch: int, dim: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Normal features [B, D]."""
    return torch.randn(batch, dim, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def rotation(dim: int, seed: int = 9) -> Tensor:
    """An orthogonal matrix [D, D]."""
    return torch.linalg.qr(features(dim, dim, seed))[0]
