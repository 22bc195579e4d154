"""Proxy-FDA as an Avalanche plugin."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from typing_extensions import Unpack

from avalanche_proxyfda.losses.proxies import proxy_count
from avalanche_proxyfda.losses.proxy_fda import ProxyFDALoss
from avalanche_proxyfda.plugins.base import TeacherChoice
from avalanche_proxyfda.plugins.graph import GraphOptions, GraphPlugin
from avalanche_proxyfda.plugins.reference import Terms
from avalanche_proxyfda.rng import generator


class ProxyFDAPlugin(GraphPlugin, supports_distributed=True):
    """Proxy-FDA (Huang et al., ICML 2025) for any SGD strategy.

    ``Naive(model, optimizer, criterion, plugins=[ProxyFDAPlugin()])``. The generator is made
    at the first batch, when the width of the features is known. Metrics:
    ``ProxyFDA_alignment`` and ``ProxyFDA_generator``; the second is part of the strategy's
    loss with coefficient 1 and reaches the generator alone.

    Args:
        proxy_ratio: s, proxies per member of a set.
        variance_weight: alpha, weight of the proxies' spread in the generator's objective.
        max_proxies: the most proxies a set can get; None takes what the first batch needs,
            and at least 32.
        kernel_size, detach_proxies: see
            :class:`~avalanche_proxyfda.losses.proxy_fda.ProxyFDALoss`.
        options: see :class:`~avalanche_proxyfda.plugins.graph.GraphPlugin`.
    """

    def __init__(
        self,
        feature_module: str | None = None,
        weight: float = 1.0,
        num_neighbors: int = 16,
        teacher: TeacherChoice = "previous",
        hard_class_batches: bool = True,
        *,
        proxy_ratio: float = 0.4,
        variance_weight: float = 1.0,
        max_proxies: int | None = None,
        kernel_size: int = 3,
        detach_proxies: bool = False,
        **options: Unpack[GraphOptions],
    ) -> None:
        super().__init__(
            feature_module, weight, num_neighbors, teacher, hard_class_batches, **options
        )
        self.proxies: dict[str, Any] = {
            "proxy_ratio": proxy_ratio,
            "variance_weight": variance_weight,
            "kernel_size": kernel_size,
            "detach_proxies": detach_proxies,
        }
        self.max_proxies = max_proxies
        self._shape = (1, 2)
        self._make(1, 32 if max_proxies is None else max_proxies)  # refuses bad options now

    def _make(self, dim: int, max_proxies: int) -> ProxyFDALoss:
        source = generator("proxies", self.seed)
        return ProxyFDALoss(
            dim, **self.graph, **self.proxies, max_proxies=max_proxies, generator=source
        )

    def build_loss(self, dim: int, batch: int) -> ProxyFDALoss:
        """The loss with a generator for features of width ``dim``."""
        self._shape = (dim, batch)
        needed = proxy_count(batch - 1, self.proxies["proxy_ratio"], batch)
        return self._make(dim, self.max_proxies or max(32, needed))

    def loss_shape(self) -> tuple[int, int]:
        """Width of the features and size of the batch that the loss was made for."""
        return self._shape

    def loss_terms(self, loss: ProxyFDALoss, student: Tensor, teacher: Tensor) -> Terms:
        """Alignment, weighted by ``weight``, and the generator's own objective."""
        made = loss(student, teacher)
        return {
            "alignment": (self.weight, made.alignment),
            "generator": (1.0, made.generator),
        }
