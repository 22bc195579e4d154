"""Proxy-FDA as an Avalanche plugin."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from typing_extensions import Unpack

from avalanche_proxyfda._random import generator
from avalanche_proxyfda.losses.proxies import proxy_count
from avalanche_proxyfda.losses.proxy_fda import ProxyFDALoss
from avalanche_proxyfda.plugins.base.auto_weight import Weight
from avalanche_proxyfda.plugins.base.graph import GraphOptions, GraphPlugin
from avalanche_proxyfda.plugins.base.lifecycle import Terms
from avalanche_proxyfda.plugins.base.preset import under_preset

PAPER_PROXIES: Mapping[str, Any] = {"proxy_ratio": 0.4, "variance_weight": 5.0, "attention": True}
"""Further options of ``preset="paper"``."""


class ProxyFDAPlugin(GraphPlugin[ProxyFDALoss], supports_distributed=True):
    """Proxy-FDA (Huang et al., ICML 2025) for any SGD strategy.

    ``Naive(model, optimizer, criterion, train_mb_size=64, plugins=[ProxyFDAPlugin()])``. The
    plugin builds the generator at the first batch, which shows the width of the features.
    Metrics: ``ProxyFDA_alignment`` and ``ProxyFDA_generator``. The second term enters the
    strategy's loss with coefficient 1; its gradient reaches the generator only.

    Args:
        weight: lambda, the coefficient of the alignment, or ``"auto"``.
        proxy_ratio: s, proxies for each member of a set.
        variance_weight: alpha, weight of the proxies' variance in the generator's objective;
            the paper has 5 in all experiments.
        max_proxies: upper limit of the proxies of a set; None takes the number that a full
            batch of the first experience needs.
        kernel_size: width of the second convolution in the generator's heads; odd.
        attention: False leaves the generator's attention out, an ablation of the paper.
        detach_proxies: True treats proxies as constants in the alignment.
        options: see :class:`~avalanche_proxyfda.plugins.base.graph.GraphPlugin`.

    Example:
        >>> import torch
        >>> from avalanche.training import Naive
        >>> from avalanche_proxyfda import ProxyFDAPlugin
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Linear(3, 2))
        >>> optimizer = torch.optim.AdamW(model.parameters())
        >>> plugin = ProxyFDAPlugin(weight=0.5, num_neighbors=2, start="siglip")
        >>> strategy = Naive(model=model, optimizer=optimizer, plugins=[plugin], train_mb_size=64)
        >>> terms = plugin.compare(torch.eye(3), torch.eye(3))
        >>> [(name, weight) for name, (weight, _) in terms.items()]
        [('alignment', 0.5), ('generator', 1.0)]
    """

    usual_share = 0.25
    auto_rule = "share"

    def __init__(
        self,
        weight: Weight = 1.0,
        *,
        proxy_ratio: float = 0.4,
        variance_weight: float = 5.0,
        max_proxies: int | None = None,
        kernel_size: int = 3,
        attention: bool = True,
        detach_proxies: bool = False,
        **options: Unpack[GraphOptions],
    ) -> None:
        super().__init__(weight, **options)
        for name, value in (
            ("proxy_ratio", proxy_ratio),
            ("variance_weight", variance_weight),
            ("attention", attention),
        ):
            under_preset(self.preset, name, value, letter=PAPER_PROXIES)
        self.proxy_options: dict[str, Any] = {
            "proxy_ratio": proxy_ratio,
            "variance_weight": variance_weight,
            "kernel_size": kernel_size,
            "attention": attention,
            "detach_proxies": detach_proxies,
        }
        self.max_proxies = max_proxies
        self._shape = (1, 2)
        self._build(1, 1 if max_proxies is None else max_proxies)  # refuses bad options early

    def _build(self, dim: int, max_proxies: int) -> ProxyFDALoss:
        return ProxyFDALoss(
            dim,
            **self.loss_options,
            **self.proxy_options,
            max_proxies=max_proxies,
            generator=generator("proxies", self.seed),
        )

    def build_loss(self, dim: int, batch: int) -> ProxyFDALoss:
        """Return the loss with a generator for features of width ``dim``."""
        self._shape = (dim, batch)
        needed = proxy_count(batch - 1, self.proxy_options["proxy_ratio"], batch)
        return self._build(dim, self.max_proxies or max(1, needed))

    def loss_shape(self) -> tuple[int, int]:
        """Return the width of the features and the size of the batch that the loss is for."""
        return self._shape

    def width(self) -> int | None:
        """Return the width of the features that the generator takes."""
        return self._shape[0]

    def compare(self, student: Tensor, teacher: Tensor) -> Terms:
        """Return the terms ``alignment`` and ``generator``; both inputs are [B, D]."""
        terms = self.graph_loss(student, teacher)(student, teacher)
        return {
            "alignment": (self.weight, terms.alignment),
            "generator": (1.0, terms.generator),
        }
