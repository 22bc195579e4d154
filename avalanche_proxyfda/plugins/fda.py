"""FDA as an Avalanche plugin."""

from __future__ import annotations

from torch import Tensor

from avalanche_proxyfda.losses.fda import FDALoss
from avalanche_proxyfda.plugins.graph import GraphPlugin
from avalanche_proxyfda.plugins.reference import Terms


class FDAPlugin(GraphPlugin, supports_distributed=True):
    """Feature distribution alignment (Huang et al., ICML 2025, Eq. 2) for any SGD strategy.

    ``Naive(model, optimizer, criterion, plugins=[FDAPlugin()])``. Metric: ``FDA_alignment``.
    """

    def build_loss(self, dim: int, batch: int) -> FDALoss:
        """FDA's loss; it fits any width."""
        return FDALoss(**self.graph)

    def loss_terms(self, loss: FDALoss, student: Tensor, teacher: Tensor) -> Terms:
        """One term, weighted by ``weight``."""
        return {"alignment": (self.weight, loss(student, teacher))}
