"""L2-SP as an Avalanche plugin."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from avalanche_proxyfda._checks import check_number_on_weights
from avalanche_proxyfda._protocols import Strategy
from avalanche_proxyfda.losses.l2sp import L2SPLoss
from avalanche_proxyfda.plugins.base.anchored import AnchorPlugin
from avalanche_proxyfda.plugins.base.lifecycle import ReferenceChoice


class L2SPPlugin(AnchorPlugin, supports_distributed=True):
    """Pulls the encoder's weights to their anchors (Li et al., ICML 2018).

    The plugin adds ``weight`` times the sum of squared differences to the loss, without an
    additional forward. Metric: ``L2SP_distance``, the sum.

    Args:
        weight: alpha, coefficient of the sum; the authors of LDIFS use 0.5 for L2-SP.
        feature_module, anchor, name: see :class:`AnchorPlugin`.

    Example:
        >>> import torch
        >>> from avalanche.training import Naive
        >>> from avalanche_proxyfda import L2SPPlugin
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Linear(3, 2))
        >>> optimizer = torch.optim.AdamW(model.parameters())
        >>> plugin = L2SPPlugin(weight=0.1, anchor="initial")
        >>> strategy = Naive(model=model, optimizer=optimizer, plugins=[plugin], train_mb_size=64)
        >>> plugin.weight, plugin.choice  # the anchors are the weights as given
        (0.1, 'initial')
    """

    def __init__(
        self,
        weight: float = 0.5,
        *,
        feature_module: str | None = None,
        anchor: ReferenceChoice = "previous",
        name: str | None = None,
    ) -> None:
        super().__init__(feature_module=feature_module, anchor=anchor, name=name)
        self.weight = check_number_on_weights("weight", weight)
        self.loss = L2SPLoss()

    def before_backward(self, strategy: Strategy, **kwargs: Any) -> None:
        """Add the term."""
        super().before_backward(strategy, **kwargs)
        if self.weights:  # a frozen encoder has none
            distance = self.loss(self.weights, self.anchors)
            self.add(strategy, {"distance": (self.weight, distance)})

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the base and the weight, which a script may change in training."""
        return {**super().state_dict(), "weight": self.weight}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load ``state``, see :meth:`ReferencePlugin.load_state_dict`."""
        super().load_state_dict(state)
        self.weight = state.get("weight", self.weight)  # older states have none
