"""PKT as an Avalanche plugin."""

from __future__ import annotations

from torch import Tensor
from typing_extensions import Unpack

from avalanche_proxyfda.losses.pkt import Kernel, PKTLoss
from avalanche_proxyfda.plugins.base.auto_weight import Weight
from avalanche_proxyfda.plugins.base.embedding import EmbeddingOptions, EmbeddingPlugin
from avalanche_proxyfda.plugins.base.lifecycle import Terms


class PKTPlugin(EmbeddingPlugin, supports_distributed=True):
    """Keeps the distribution over each batch around each sample (Passalis and Tefas, 2018).

    Metric: ``PKT_divergence``.

    Args:
        weight: coefficient of the loss, or ``"auto"``, whose tolerance is then 1 by default.
        scale: factor of the cosines in the softmax kernel; None takes 10.
        kernel: ``"softmax"`` of the scaled cosines, or the paper's ``"cosine"``, which is
            (1 + cosine) / 2 over its sum.
        options: see :class:`EmbeddingPlugin`.

    Example:
        >>> import torch
        >>> from avalanche.training import Naive
        >>> from avalanche_proxyfda import PKTPlugin
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Linear(3, 2))
        >>> optimizer = torch.optim.AdamW(model.parameters())
        >>> plugin = PKTPlugin(weight=0.5, kernel="cosine")
        >>> strategy = Naive(model=model, optimizer=optimizer, plugins=[plugin], train_mb_size=64)
        >>> plugin.compare(-torch.eye(3), torch.eye(3))  # a mirror keeps all cosines
        {'divergence': (0.5, tensor(0.))}
    """

    usual_delta = 1.0
    usual_share = 0.25

    def __init__(
        self,
        weight: Weight = 1.0,
        *,
        scale: float | None = None,
        kernel: Kernel = "softmax",
        **options: Unpack[EmbeddingOptions],
    ) -> None:
        super().__init__(weight, **options)
        self.loss = PKTLoss(scale, kernel)

    def compare(self, student: Tensor, teacher: Tensor) -> Terms:
        """Return the term ``divergence``; both inputs are [B, D]."""
        return {"divergence": (self.weight, self.loss(student, teacher))}
