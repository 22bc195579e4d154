"""RIFT as an Avalanche plugin."""

from __future__ import annotations

from torch import Tensor
from typing_extensions import Unpack

from avalanche_proxyfda.losses.rift import RIFTLoss, Rotation
from avalanche_proxyfda.plugins.base.embedding import EmbeddingOptions, EmbeddingPlugin
from avalanche_proxyfda.plugins.base.lifecycle import Terms


class RIFTPlugin(EmbeddingPlugin, supports_distributed=True):
    """Keeps the covariance of the embeddings of each batch (arXiv 2503.07399).

    Metric: ``RIFT_covariance``.

    Args:
        weight: coefficient of the loss; the authors' grid is 0.01 to 10.
        q, mean_weight: see :class:`~avalanche_proxyfda.losses.rift.RIFTLoss`.
        options: see :class:`EmbeddingPlugin`.
    """

    def __init__(
        self,
        weight: float = 1.0,
        *,
        q: Rotation = "identity",
        mean_weight: float = 0.0,
        **options: Unpack[EmbeddingOptions],
    ) -> None:
        super().__init__(weight, **options)
        self.loss = RIFTLoss(q, mean_weight)

    def compare(self, student: Tensor, teacher: Tensor) -> Terms:
        """Return the term ``covariance``; both inputs are [B, D]."""
        return {"covariance": (self.weight, self.loss(student, teacher))}
