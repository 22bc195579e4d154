"""FDA as an Avalanche plugin."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from typing_extensions import Unpack

from avalanche_proxyfda.losses.base import NegativeWeight
from avalanche_proxyfda.losses.fda import FDALoss
from avalanche_proxyfda.plugins.base import FeaturePlugin, PluginOptions, TeacherChoice, Terms


class GraphOptions(PluginOptions, total=False):
    """Keyword arguments of the plugins on the neighbour graph; see :class:`GraphPlugin`."""

    negative_weight: NegativeWeight
    init_logit_scale: float
    init_logit_bias: float
    learnable: bool


class GraphPlugin(FeaturePlugin):
    """What the plugins on the neighbour graph share: K, and the options of its loss.

    Args:
        feature_module, weight, teacher, hard_class_batches: see :class:`FeaturePlugin`.
        num_neighbors: K, below the batch size.
        negative_weight, init_logit_scale, init_logit_bias, learnable: see
            :class:`~avalanche_proxyfda.losses.base.GraphLoss`.
        options: see :class:`FeaturePlugin` too.
    """

    def __init__(
        self,
        feature_module: str | None = None,
        weight: float = 1.0,
        num_neighbors: int = 16,
        teacher: TeacherChoice = "previous",
        hard_class_batches: bool = True,
        *,
        negative_weight: NegativeWeight = "similarity",
        init_logit_scale: float = 10.0,
        init_logit_bias: float = -10.0,
        learnable: bool = True,
        **options: Unpack[PluginOptions],
    ) -> None:
        super().__init__(feature_module, weight, teacher, hard_class_batches, **options)
        self.graph: dict[str, Any] = {
            "num_neighbors": num_neighbors,
            "negative_weight": negative_weight,
            "init_logit_scale": init_logit_scale,
            "init_logit_bias": init_logit_bias,
            "learnable": learnable,
        }
        FDALoss(**self.graph)  # refuses bad options now, not at the first batch

    def check_batch_size(self, batch: int) -> None:
        """Raise ValueError unless K is below ``batch``."""
        if self.graph["num_neighbors"] >= batch:
            raise ValueError(
                f"num_neighbors={self.graph['num_neighbors']} must be below the training batch, "
                f"which holds {batch} samples: lower num_neighbors or raise train_mb_size"
            )


class FDAPlugin(GraphPlugin):
    """Feature distribution alignment (Huang et al., ICML 2025, Eq. 2) for any SGD strategy.

    ``Naive(model, optimizer, criterion, plugins=[FDAPlugin()])``. Metric: ``FDA_alignment``.
    """

    def build_loss(self, dim: int, batch: int) -> FDALoss:
        """FDA's loss; it fits any width."""
        return FDALoss(**self.graph)

    def terms(self, loss: FDALoss, student: Tensor, teacher: Tensor) -> Terms:
        """One term, weighted by ``weight``."""
        return {"alignment": (self.weight, loss(student, teacher))}
