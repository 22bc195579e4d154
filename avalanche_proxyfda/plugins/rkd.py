"""RKD as an Avalanche plugin."""

from __future__ import annotations

from torch import Tensor
from typing_extensions import Unpack

from avalanche_proxyfda.losses.rkd import RKDLoss
from avalanche_proxyfda.plugins.base import TeacherChoice
from avalanche_proxyfda.plugins.embedding import EmbeddingOptions, EmbeddingPlugin
from avalanche_proxyfda.plugins.reference import Terms


class RKDPlugin(EmbeddingPlugin, supports_distributed=True):
    """Keeps distances and angles between the embeddings of each batch (Park et al., 2019).

    Metric: ``RKD_relations``.

    Args:
        feature_module, weight, teacher: see :class:`EmbeddingPlugin`.
        distance_weight, angle_weight: see :class:`~avalanche_proxyfda.losses.rkd.RKDLoss`.
        options: see :class:`EmbeddingPlugin` too.
    """

    def __init__(
        self,
        feature_module: str | None = None,
        weight: float = 1.0,
        teacher: TeacherChoice = "previous",
        *,
        distance_weight: float = 1.0,
        angle_weight: float = 2.0,
        **options: Unpack[EmbeddingOptions],
    ) -> None:
        super().__init__(feature_module, weight, teacher, **options)
        self.loss = RKDLoss(distance_weight, angle_weight)

    def terms(self, student: Tensor, teacher: Tensor) -> Terms:
        """One term, weighted by ``weight``."""
        return {"relations": (self.weight, self.loss(student, teacher))}
