"""Methods that act on weights, near anchors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from avalanche_proxyfda.feature_source import unwrap
from avalanche_proxyfda.plugins.reference import ReferenceChoice, ReferencePlugin, tell
from avalanche_proxyfda.weights.anchor import WeightAnchor, encoder_names


class AnchorPlugin(ReferencePlugin[WeightAnchor]):
    """Keeps anchors of the encoder's weights. No forward is added.

    The head is left alone: a new one has no earlier weights to stay near.

    Args:
        feature_module, name: see :class:`ReferencePlugin`.
        anchor: its ``choice``.
    """

    option = "anchor"

    def __init__(
        self,
        feature_module: str | None = None,
        anchor: ReferenceChoice = "previous",
        name: str | None = None,
    ) -> None:
        super().__init__(feature_module, anchor, name)
        self.weights: list[nn.Parameter] = []
        """The encoder's trainable parameters that have an anchor, during an experience."""
        self.anchors: list[Tensor] = []
        """Their anchors, in the same order."""
        self._told = False

    @property
    def anchor(self) -> WeightAnchor | None:
        """The anchors, while there are any."""
        return self.reference

    def anchored(self, model: nn.Module) -> list[str]:
        """Names of the tensors of ``model`` (unwrapped) that the method needs anchors of."""
        return encoder_names(model, self.embedding(model))

    def make_reference(self, strategy: Any) -> WeightAnchor:
        """The weights, as they stand, that this plugin and its fellows need."""
        model = unwrap(strategy.model)
        fellows = [p for p in strategy.plugins if isinstance(p, AnchorPlugin)]
        names = [n for p in fellows if p.choice == self.choice for n in p.anchored(model)]
        return WeightAnchor.of(model, dict.fromkeys(names))

    def shares_reference_with(self, other: ReferencePlugin[Any]) -> bool:
        """Whether this plugin's anchors are the ones that ``other`` needs, all of them."""
        if not isinstance(other, AnchorPlugin) or not super().shares_reference_with(other):
            return False
        owner = other._owner() if other._owner else None
        if owner is None or self.reference is None:
            return False
        return set(other.anchored(unwrap(owner.model))) <= set(self.reference.tensors)

    def restore_reference(self, strategy: Any, state: Any) -> WeightAnchor:
        """The weights of a saved state."""
        return WeightAnchor.restore(strategy.model, state)

    def reference_state(self, reference: WeightAnchor) -> Any:
        """The weights by name."""
        return reference.tensors

    def prepare(
        self, strategy: Any, state: Mapping[str, Any], new: bool, loading: Mapping[str, Any]
    ) -> None:
        """Pair the encoder's parameters with their anchors."""
        assert self.reference is not None
        model = unwrap(strategy.model)
        names = encoder_names(model, self.embedding(model))
        known = self.reference.matched(model, names)
        self.tell_of_the_rest(set(names) - set(known))
        named = dict(model.named_parameters())
        known = [name for name in known if named[name].requires_grad]
        self.weights = [named[name] for name in known]
        self.anchors = [self.reference.tensors[name] for name in known]

    def tell_of_the_rest(self, names: set[str]) -> None:
        """Say once which weights have no anchor, if any."""
        if names and not self._told:
            self._told = True
            some = ", ".join(sorted(names)[:3]) + (", …" if len(names) > 3 else "")
            tell(
                f"{self.name} leaves out {len(names)} weights that did not exist, or had another "
                f"shape, when its anchors were taken: {some} (said once)"
            )

    def stop(self) -> None:
        """Let go of the parameters."""
        super().stop()
        self.weights, self.anchors = [], []
