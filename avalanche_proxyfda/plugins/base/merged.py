"""The base of methods that write other weights to the model at the end of an experience."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from avalanche_proxyfda._checks import check_flag
from avalanche_proxyfda._protocols import Strategy
from avalanche_proxyfda.features.source import unwrap
from avalanche_proxyfda.plugins.base.anchored import AnchorPlugin
from avalanche_proxyfda.plugins.base.lifecycle import ReferenceChoice
from avalanche_proxyfda.weights.anchor import encoder_names, encoder_test


class MergedPlugin(AnchorPlugin):
    """Matches weights and saved buffers of the model with their anchors.

    Args:
        feature_module, anchor, name: see :class:`AnchorPlugin`.
        include_head: also take the head's weights, as for a zero-shot head. Weights of the head
            that have no anchor keep their values.
    """

    def __init__(
        self,
        *,
        feature_module: str | None = None,
        anchor: ReferenceChoice = "previous",
        include_head: bool = False,
        name: str | None = None,
    ) -> None:
        super().__init__(feature_module=feature_module, anchor=anchor, name=name)
        self.include_head = check_flag("include_head", include_head)
        self._names: list[str] = []
        self._buffer_names: list[str] = []

    def anchored(self, model: nn.Module) -> list[str]:
        """Return the names of the encoder's weights and saved buffers, and of the head's weights.

        The head's weights need ``include_head``.
        """
        encoder = super().anchored(model)
        head = [n for n, _ in model.named_parameters() if n not in set(encoder)]
        return encoder + self._buffers_of(model) + (head if self.include_head else [])

    def _buffers_of(self, model: nn.Module) -> list[str]:
        inside, saved = encoder_test(model, self.embedding(model)), set(model.state_dict())
        return [n for n, _ in model.named_buffers() if n in saved and inside(n)]

    def prepare(
        self, strategy: Strategy, state: Mapping[str, Any], new: bool, loading: Mapping[str, Any]
    ) -> None:
        """Match tensors and anchors before training, so that errors come early."""
        super().prepare(strategy, state, new, loading)
        assert self.reference is not None
        model = unwrap(strategy.model)
        encoder = encoder_names(model, self.embedding(model))
        self._buffer_names = self.reference.matched(model, self._buffers_of(model))
        self._names = self.reference.matched(model, encoder)
        if self.include_head:
            anchors, parameters = self.reference.tensors, dict(model.named_parameters())
            head = set(parameters) - set(encoder)
            matched = {n for n in head if n in anchors and anchors[n].shape == parameters[n].shape}
            self._names += sorted(matched)
            self.warn_of_missing(head - matched)

    def stop(self) -> None:
        """End an experience; forget the matched names."""
        super().stop()
        self._names, self._buffer_names = [], []


def tensors_of(model: nn.Module) -> dict[str, Tensor]:
    """Return the parameters and buffers of ``model`` by name."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}
