"""DiGraP as an Avalanche plugin."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from avalanche_proxyfda._protocols import Strategy
from avalanche_proxyfda.distributed.plugin import share_of
from avalanche_proxyfda.plugins.base.anchored import AnchorPlugin
from avalanche_proxyfda.plugins.base.lifecycle import ReferenceChoice, is_last_part
from avalanche_proxyfda.weights.digrap import GradientProjection


class DiGraPPlugin(AnchorPlugin, supports_distributed=True):
    """Removes the part of each gradient that points away from the anchors (arXiv 2502.15895).

    The plugin changes the gradients of the encoder's tensors just before the optimizer's step,
    for any optimizer. Put plugins that clip gradients after it. Metrics: ``DiGraP_omega``, the
    mean strength, and ``DiGraP_conflict``, the share of tensors that pointed away.

    Args:
        mu: learning rate of the strength; the authors' grid is 0.01, 0.1, 0.5, 1, 10.
        feature_module, anchor, name: see :class:`AnchorPlugin`.
    """

    def __init__(
        self,
        mu: float = 0.5,
        *,
        feature_module: str | None = None,
        anchor: ReferenceChoice = "previous",
        name: str | None = None,
    ) -> None:
        super().__init__(feature_module=feature_module, anchor=anchor, name=name)
        self.projection = GradientProjection(mu)

    def prepare(
        self, strategy: Strategy, state: Mapping[str, Any], new: bool, loading: Mapping[str, Any]
    ) -> None:
        """Reset the recursion in a new experience; restore it in a resumed one."""
        super().prepare(strategy, state, new, loading)
        if state.get("projection") is not None:
            self.projection.load_state_dict(state["projection"], strategy.device)
        elif new:
            self.projection.reset()

    def before_update(self, strategy: Strategy, **kwargs: Any) -> None:
        """Change the gradients."""
        if self.weights:
            terms = self.projection.step(self.weights, self.anchors)
            self._log.add(terms, share_of(strategy))

    def after_training_exp(self, strategy: Strategy, **kwargs: Any) -> None:
        """Free the recursion's tensors at the end of the experience."""
        super().after_training_exp(strategy, **kwargs)
        if is_last_part(strategy):
            self.projection.reset()

    def state_dict(self) -> dict[str, Any]:
        """Return the anchors, the strengths and their moments."""
        inside = self.projection.omega is not None
        projection = self.projection.state_dict() if inside else self.pending.get("projection")
        return {**super().state_dict(), "projection": projection}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load ``state``, see :meth:`ReferencePlugin.load_state_dict`."""
        super().load_state_dict(state)
        self.projection.reset()
