"""The base of methods that act on weights, near anchors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from avalanche_proxyfda._protocols import Strategy
from avalanche_proxyfda.features.source import unwrap
from avalanche_proxyfda.plugins.base.lifecycle import ReferenceChoice, ReferencePlugin
from avalanche_proxyfda.weights.anchor import WeightAnchor, encoder_names


class AnchorPlugin(ReferencePlugin[WeightAnchor]):
    """Keeps anchors of the encoder's weights, without an additional forward.

    The head gets no anchors: a new head has no earlier weights. Weights may be frozen and unfrozen
    within an experience: a method acts on those that are trainable in the step.

    Args:
        feature_module: the embedding, where the encoder ends and the head begins: ``"NAME"``,
            the output of that module, or ``"NAME:input"``, its input. None takes a preset.
        anchor: ``"previous"``, the weights at the end of the experience before (for the first
            experience: as given), or ``"initial"``, always the weights as given.
        name: prefix of the metrics; None takes the name of the class without "Plugin".
    """

    option = "anchor"

    def __init__(
        self,
        *,
        feature_module: str | None = None,
        anchor: ReferenceChoice = "previous",
        name: str | None = None,
    ) -> None:
        super().__init__(choice=anchor, feature_module=feature_module, name=name)
        self.names: list[str] = []
        """Names of :attr:`weights`, in the same order."""
        self.weights: list[nn.Parameter] = []
        """The encoder's trainable parameters that have an anchor, during an experience."""
        self.anchors: list[Tensor] = []
        """The anchors of :attr:`weights`, in the same order."""
        self._matched: list[str] = []  # names of the encoder's parameters that have an anchor
        self._parameters: list[nn.Parameter] = []  # the model's, in this experience
        self._trainable: list[bool] = []  # requires_grad of each, when they were paired

    @property
    def anchor(self) -> WeightAnchor | None:
        """The anchors, during an experience."""
        return self.reference

    def anchored(self, model: nn.Module) -> list[str]:
        """Return the names of the tensors of ``model`` (unwrapped) that need anchors."""
        return encoder_names(model, self.embedding(model))

    def make_reference(self, strategy: Strategy) -> WeightAnchor:
        """Return the weights, as they stand, that plugins with the same anchors need."""
        model = unwrap(strategy.model)
        plugins = [p for p in strategy.plugins if isinstance(p, AnchorPlugin)]
        names = [n for p in plugins if p.choice == self.choice for n in p.anchored(model)]
        return WeightAnchor.of(model, dict.fromkeys(names))

    def shares_reference_with(self, other: ReferencePlugin[Any]) -> bool:
        """Return True if this plugin has all the anchors that ``other`` needs."""
        if not isinstance(other, AnchorPlugin) or not super().shares_reference_with(other):
            return False
        owner = other._owner() if other._owner else None
        if owner is None or self.reference is None:
            return False
        return set(other.anchored(unwrap(owner.model))) <= set(self.reference.tensors)

    def restore_reference(self, strategy: Strategy, state: Any) -> WeightAnchor:
        """Return the anchors of a saved state."""
        return WeightAnchor.restore(strategy.model, state)

    def reference_state(self, reference: WeightAnchor) -> Any:
        """Return the anchors by name."""
        return reference.tensors

    def prepare(
        self, strategy: Strategy, state: Mapping[str, Any], new: bool, loading: Mapping[str, Any]
    ) -> None:
        """Pair the encoder's parameters with their anchors."""
        assert self.reference is not None
        model = unwrap(strategy.model)
        names = encoder_names(model, self.embedding(model))
        self._matched = self.reference.matched(model, names)
        self.warn_of_missing(set(names) - set(self._matched))
        self._parameters = list(model.parameters())
        self._pair(model)

    def _pair(self, model: nn.Module) -> None:
        assert self.reference is not None
        parameters = dict(model.named_parameters())
        self.names = [name for name in self._matched if parameters[name].requires_grad]
        self.weights = [parameters[name] for name in self.names]
        self.anchors = [self.reference.tensors[name] for name in self.names]
        self._trainable = [p.requires_grad for p in self._parameters]

    def before_backward(self, strategy: Strategy, **kwargs: Any) -> None:
        """Pair weights and anchors again if weights were frozen or unfrozen since the last step."""
        super().before_backward(strategy, **kwargs)
        if [p.requires_grad for p in self._parameters] != self._trainable:
            self.pair_again(unwrap(strategy.model))

    def pair_again(self, model: nn.Module) -> None:
        """Take the weights of ``model`` (unwrapped) that are trainable now."""
        self._pair(model)

    def warn_of_missing(self, names: set[str]) -> None:
        """Warn once if there are ``names`` of weights without an anchor."""
        if names:
            some = ", ".join(sorted(names)[:3]) + (", …" if len(names) > 3 else "")
            self.warn_once(
                "missing anchors",
                f"{self.name} leaves out {len(names)} weights that did not exist, or had another "
                f"shape, when its anchors were taken: {some} (this warning comes once)",
            )

    def stop(self) -> None:
        """End an experience; release the parameters."""
        super().stop()
        self.names, self.weights, self.anchors = [], [], []
        self._matched, self._parameters, self._trainable = [], [], []
