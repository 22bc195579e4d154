"""DiGraP as an Avalanche plugin."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from avalanche_proxyfda.distributed.plugin import share_of
from avalanche_proxyfda.plugins.anchored import AnchorPlugin
from avalanche_proxyfda.plugins.reference import ReferenceChoice, is_last_part
from avalanche_proxyfda.weights.digrap import GradientProjection


class DiGraPPlugin(AnchorPlugin, supports_distributed=True):
    """Takes out of each gradient what points away from the anchors (arXiv 2502.15895).

    Acts just before the optimizer's step, whatever the optimizer, on each of the encoder's
    tensors. Put plugins that clip gradients after it. Metrics: ``DiGraP_omega``, the mean
    strength, and ``DiGraP_conflict``, the share of tensors that pointed away.

    Args:
        mu: learning rate of the strength; the authors' grid is 0.01, 0.1, 0.5, 1, 10.
        feature_module, anchor, name: see :class:`AnchorPlugin`.
    """

    def __init__(
        self,
        mu: float = 0.5,
        feature_module: str | None = None,
        anchor: ReferenceChoice = "previous",
        name: str | None = None,
    ) -> None:
        super().__init__(feature_module, anchor, name)
        self.projection = GradientProjection(mu)

    def prepare(
        self, strategy: Any, state: Mapping[str, Any], new: bool, loading: Mapping[str, Any]
    ) -> None:
        """Begin the recursion again with each experience, or go on inside one."""
        super().prepare(strategy, state, new, loading)
        if state.get("projection") is not None:
            self.projection.load_state_dict(state["projection"], strategy.device)
        elif new:
            self.projection.reset()

    def before_update(self, strategy: Any, **kwargs: Any) -> None:
        """Change the gradients."""
        if self.weights:
            terms = self.projection.step(self.weights, self.anchors)
            self._log.add(terms, share_of(strategy))

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Free what the recursion keeps, where the experience ends."""
        super().after_training_exp(strategy, **kwargs)
        if is_last_part(strategy):
            self.projection.reset()

    def state_dict(self) -> dict[str, Any]:
        """Anchors, strengths and their moments."""
        inside = self.projection.omega is not None
        own = self.projection.state_dict() if inside else self.pending.get("projection")
        return {**super().state_dict(), "projection": own}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over ``state``, see :meth:`ReferencePlugin.load_state_dict`."""
        super().load_state_dict(state)
        self.projection.reset()
