"""A bounded memory of features of earlier samples."""

from __future__ import annotations

import torch
from torch import Tensor

from avalanche_proxyfda._checks import check_count
from avalanche_proxyfda._tensors import full_precision


class FeatureMemory:
    """The features of the last samples, in the order in which they came.

    Args:
        size: largest number of rows; 0 keeps none.

    Raises:
        TypeError, ValueError: for a size that is no int from 0.

    Example:
        >>> import torch
        >>> from avalanche_proxyfda.features.memory import FeatureMemory
        >>> memory = FeatureMemory(3)
        >>> for start in (0, 2):
        ...     memory.add(torch.arange(start, start + 2.0).unsqueeze(1))
        >>> memory.rows
        tensor([[1.],
                [2.],
                [3.]])
    """

    def __init__(self, size: int) -> None:
        self.size = check_count("memory", size, 0)
        self.rows: Tensor | None = None
        """[M, D], M <= size, the oldest row first; None while there is none."""

    def add(self, rows: Tensor) -> None:
        """Add rows [B, D], and drop the oldest beyond the size; half precision becomes float32."""
        if self.size == 0 or len(rows) == 0:
            return
        new = full_precision(rows.detach())[-self.size :]
        if self.rows is None:
            self.rows = new.clone()
            return
        older = self.rows[max(0, len(self.rows) + len(new) - self.size) :]
        self.rows = torch.cat((older, new))

    def clear(self) -> None:
        """Drop all rows."""
        self.rows = None
