"""WiSE-FT as an Avalanche plugin."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

import torch
from torch import nn

from avalanche_proxyfda._checks import check_choice
from avalanche_proxyfda._protocols import Strategy
from avalanche_proxyfda.features.source import unwrap
from avalanche_proxyfda.plugins.base.anchored import AnchorPlugin
from avalanche_proxyfda.plugins.base.lifecycle import ReferenceChoice, is_last_part
from avalanche_proxyfda.weights.anchor import encoder_names, encoder_test
from avalanche_proxyfda.weights.interpolate import BufferChoice, check_alpha, interpolate


class WiSEFTPlugin(AnchorPlugin, supports_distributed=True):
    """Interpolates weights and anchors after each experience (Wortsman et al., 2022).

    The weights become ``(1 - alpha) anchor + alpha theta`` before any evaluation that follows
    the experience. Training and the optimizer's state stay as they are.
    :func:`~avalanche_proxyfda.weights.interpolate.interpolation_path` helps to choose alpha
    after training instead.

    Args:
        alpha: 0 restores the anchors, 1 keeps the tuned model.
        feature_module, anchor, name: see :class:`AnchorPlugin`.
        buffers: how BatchNorm's running statistics and other buffers of the encoder are set:
            ``"interpolate"`` treats them like weights, as the authors' code does, ``"tuned"``
            keeps the tuned ones, and ``"anchor"`` takes those of the anchors.
        include_head: also interpolate the head's weights, as for a zero-shot head. Weights
            of the head that have no anchor keep their values.
    """

    def __init__(
        self,
        alpha: float = 0.5,
        *,
        feature_module: str | None = None,
        anchor: ReferenceChoice = "previous",
        buffers: BufferChoice = "interpolate",
        include_head: bool = False,
        name: str | None = None,
    ) -> None:
        super().__init__(feature_module=feature_module, anchor=anchor, name=name)
        self.alpha = check_alpha(alpha)
        check_choice("buffers", buffers, get_args(BufferChoice))
        self.buffers: BufferChoice = buffers
        self.include_head = bool(include_head)
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

    def after_training_exp(self, strategy: Strategy, **kwargs: Any) -> None:
        """Interpolate at the end of the experience."""
        if is_last_part(strategy):
            self._interpolate(unwrap(strategy.model))
        super().after_training_exp(strategy, **kwargs)

    @torch.no_grad()
    def _interpolate(self, model: nn.Module) -> None:
        assert self.reference is not None
        tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        alphas = {"interpolate": self.alpha, "tuned": 1.0, "anchor": 0.0}
        for names, alpha in ((self._names, self.alpha), (self._buffer_names, alphas[self.buffers])):
            tuned = {name: tensors[name].detach() for name in names}
            anchors = {name: self.reference.tensors[name] for name in names}
            for name, value in interpolate(anchors, tuned, alpha).items():
                tensors[name].copy_(value)

    def stop(self) -> None:
        """End an experience; forget the matched names."""
        super().stop()
        self._names, self._buffer_names = [], []
