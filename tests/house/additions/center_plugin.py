"""Center as an Avalanche plugin."""

from __future__ import annotations

from avalanche_proxyfda.losses.center import CenterLoss
from torch import Tensor
from typing_extensions import Unpack

from avalanche_proxyfda.plugins.base.embedding import EmbeddingOptions, EmbeddingPlugin
from avalanche_proxyfda.plugins.base.lifecycle import Terms


class CenterPlugin(EmbeddingPlugin, supports_distributed=True):
    """Keeps the mean embedding of each batch near the teacher's.

    Metric: ``Center_mean``.

    Args:
        weight: coefficient of the loss.
        options: see :class:`EmbeddingPlugin`.
    """

    def __init__(self, weight: float = 1.0, **options: Unpack[EmbeddingOptions]) -> None:
        super().__init__(weight, **options)
        self.loss = CenterLoss()

    def compare(self, student: Tensor, teacher: Tensor) -> Terms:
        """Return the term ``mean``; both inputs are [B, D]."""
        return {"mean": (self.weight, self.loss(student, teacher))}
