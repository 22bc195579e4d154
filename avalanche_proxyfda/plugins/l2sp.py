"""L2-SP as an Avalanche plugin."""

from __future__ import annotations

from typing import Any

from avalanche_proxyfda.losses.base import check_amount
from avalanche_proxyfda.losses.l2sp import l2sp
from avalanche_proxyfda.plugins.anchored import AnchorPlugin
from avalanche_proxyfda.plugins.reference import ReferenceChoice


class L2SPPlugin(AnchorPlugin, supports_distributed=True):
    """Pulls the encoder's weights to their anchors (Li et al., ICML 2018).

    Adds ``weight`` times the sum of squared differences to the loss. No forward is added.
    Metric: ``L2SP_distance``, the sum.

    Args:
        weight: alpha; 0.5 is what LDIFS's authors use for it.
        feature_module, anchor, name: see :class:`AnchorPlugin`.
    """

    def __init__(
        self,
        weight: float = 0.5,
        feature_module: str | None = None,
        anchor: ReferenceChoice = "previous",
        name: str | None = None,
    ) -> None:
        super().__init__(feature_module, anchor, name)
        self.weight = check_amount("weight", weight)

    def before_backward(self, strategy: Any, **kwargs: Any) -> None:
        """Add the term."""
        if self.weights:  # none where the encoder is frozen
            self.add(strategy, {"distance": (self.weight, l2sp(self.weights, self.anchors))})
