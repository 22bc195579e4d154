"""RKD as an Avalanche plugin."""

from __future__ import annotations

from torch import Tensor
from typing_extensions import Unpack

from avalanche_proxyfda.losses.rkd import RKDLoss
from avalanche_proxyfda.plugins.base.auto_weight import Weight
from avalanche_proxyfda.plugins.base.embedding import EmbeddingOptions, EmbeddingPlugin
from avalanche_proxyfda.plugins.base.lifecycle import Terms


class RKDPlugin(EmbeddingPlugin, supports_distributed=True):
    """Keeps distances and angles between the embeddings of each batch (Park et al., 2019).

    Metric: ``RKD_relations``.

    Args:
        weight: coefficient of the loss, or ``"auto"``.
        distance_weight: weight of the distances of pairs in the loss; 0 skips them.
        angle_weight: weight of the angles of triples in the loss; 0 skips them.
        options: see :class:`EmbeddingPlugin`.

    Example:
        >>> import torch
        >>> from avalanche.training import Naive
        >>> from avalanche_proxyfda import RKDPlugin
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Linear(3, 2))
        >>> optimizer = torch.optim.AdamW(model.parameters())
        >>> plugin = RKDPlugin(weight=0.5, angle_weight=2.0)
        >>> strategy = Naive(model=model, optimizer=optimizer, plugins=[plugin], train_mb_size=64)
        >>> plugin.compare(-torch.eye(3), torch.eye(3))  # a mirror keeps distances and angles
        {'relations': (0.5, tensor(0.))}
    """

    def __init__(
        self,
        weight: Weight = 1.0,
        *,
        distance_weight: float = 1.0,
        angle_weight: float = 2.0,
        **options: Unpack[EmbeddingOptions],
    ) -> None:
        super().__init__(weight, **options)
        self.loss = RKDLoss(distance_weight, angle_weight)

    def compare(self, student: Tensor, teacher: Tensor) -> Terms:
        """Return the term ``relations``; both inputs are [B, D]."""
        return {"relations": (self.weight, self.loss(student, teacher))}
