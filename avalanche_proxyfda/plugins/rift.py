"""RIFT as an Avalanche plugin."""

from __future__ import annotations

from torch import Tensor
from typing_extensions import Unpack

from avalanche_proxyfda.losses.rift import RIFTLoss, Rotation
from avalanche_proxyfda.plugins.base import TeacherChoice
from avalanche_proxyfda.plugins.embedding import EmbeddingOptions, EmbeddingPlugin
from avalanche_proxyfda.plugins.reference import Terms


class RIFTPlugin(EmbeddingPlugin, supports_distributed=True):
    """Keeps the covariance of the embeddings of each batch (arXiv 2503.07399).

    Metric: ``RIFT_covariance``.

    Args:
        feature_module, weight, teacher: see :class:`EmbeddingPlugin`; the authors' grid of
            weights is 0.01 to 10.
        q, mean_weight: see :class:`~avalanche_proxyfda.losses.rift.RIFTLoss`.
        options: see :class:`EmbeddingPlugin` too.
    """

    def __init__(
        self,
        feature_module: str | None = None,
        weight: float = 1.0,
        teacher: TeacherChoice = "previous",
        *,
        q: Rotation = "identity",
        mean_weight: float = 0.0,
        **options: Unpack[EmbeddingOptions],
    ) -> None:
        super().__init__(feature_module, weight, teacher, **options)
        self.loss = RIFTLoss(q, mean_weight)

    def terms(self, student: Tensor, teacher: Tensor) -> Terms:
        """One term, weighted by ``weight``."""
        return {"covariance": (self.weight, self.loss(student, teacher))}
