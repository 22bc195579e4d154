"""FDA as an Avalanche plugin."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from avalanche_proxyfda.losses.fda import FDALoss
from avalanche_proxyfda.plugins.base.graph import GraphPlugin
from avalanche_proxyfda.plugins.base.lifecycle import Terms
from avalanche_proxyfda.plugins.proxy_fda import ProxyFDAPlugin


class FDAPlugin(GraphPlugin[FDALoss], supports_distributed=True):
    """Feature distribution alignment (Huang et al., ICML 2025, Eq. 2) for any SGD strategy.

    ``Naive(model, optimizer, criterion, train_mb_size=64, plugins=[FDAPlugin()])``. Metric:
    ``FDA_alignment``.

    Example:
        >>> import torch
        >>> from avalanche.training import Naive
        >>> from avalanche_proxyfda import FDAPlugin
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Linear(3, 2))
        >>> optimizer = torch.optim.AdamW(model.parameters())
        >>> plugin = FDAPlugin(weight=0.5, num_neighbors=8, hard_class_batches=False)
        >>> strategy = Naive(model=model, optimizer=optimizer, plugins=[plugin], train_mb_size=64)
        >>> plugin.weight, plugin.num_neighbors, plugin.name
        (0.5, 8, 'FDA')
    """

    kin: ClassVar[tuple[type, ...]] = (ProxyFDAPlugin,)
    usual_share = 0.25
    auto_rule = "share"

    def build_loss(self, dim: int, batch: int) -> FDALoss:
        """Return FDA's loss, which takes any ``dim`` and ``batch``."""
        return FDALoss(**self.loss_options)

    def compare(self, student: Tensor, teacher: Tensor) -> Terms:
        """Return the term ``alignment``; both inputs are [B, D]."""
        return {"alignment": (self.weight, self.graph_loss(student, teacher)(student, teacher))}
