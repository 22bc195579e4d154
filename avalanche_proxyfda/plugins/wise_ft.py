"""WiSE-FT as an Avalanche plugin."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

import torch
from torch import nn

from avalanche_proxyfda.feature_source import unwrap
from avalanche_proxyfda.plugins.anchored import AnchorPlugin
from avalanche_proxyfda.plugins.reference import ReferenceChoice, check_choice, is_last_part
from avalanche_proxyfda.weights.anchor import encoder_names, encoder_test
from avalanche_proxyfda.weights.interpolate import BufferChoice, check_alpha, interpolate


class WiSEFTPlugin(AnchorPlugin, supports_distributed=True):
    """Goes back part of the way to the anchors after each experience (Wortsman et al., 2022).

    ``theta = (1 - alpha) anchor + alpha theta``, before any evaluation that follows the
    experience. Training itself is not changed, nor is the optimizer's state. To choose
    alpha after training instead, see
    :func:`~avalanche_proxyfda.weights.interpolate.interpolation_path`.

    Args:
        alpha: 0 gives the anchors back, 1 leaves the tuned model.
        feature_module, anchor, name: see :class:`AnchorPlugin`.
        buffers: BatchNorm's running statistics and other buffers of the encoder:
            ``"interpolate"`` them like weights, as the authors' code does, keep the
            ``"tuned"`` ones, or take the ``"anchor"``'s.
        include_head: interpolate the head's weights too, as with a zero-shot head; those
            that are new since the anchors were taken stay as they are.
    """

    def __init__(
        self,
        alpha: float = 0.5,
        feature_module: str | None = None,
        anchor: ReferenceChoice = "previous",
        buffers: BufferChoice = "interpolate",
        include_head: bool = False,
        name: str | None = None,
    ) -> None:
        super().__init__(feature_module, anchor, name)
        self.alpha = check_alpha(alpha)
        check_choice("buffers", buffers, get_args(BufferChoice))
        self.buffers: BufferChoice = buffers
        self.include_head = bool(include_head)
        self._names: list[str] = []
        self._buffer_names: list[str] = []

    def anchored(self, model: nn.Module) -> list[str]:
        """The encoder's weights and saved buffers, and the head's weights if they are asked for."""
        encoder = super().anchored(model)
        head = [n for n, _ in model.named_parameters() if n not in set(encoder)]
        return encoder + self._buffers_of(model) + (head if self.include_head else [])

    def _buffers_of(self, model: nn.Module) -> list[str]:
        inside, saved = encoder_test(model, self.embedding(model)), set(model.state_dict())
        return [n for n, _ in model.named_buffers() if n in saved and inside(n)]

    def prepare(
        self, strategy: Any, state: Mapping[str, Any], new: bool, loading: Mapping[str, Any]
    ) -> None:
        """Find out now, not after training, what has an anchor."""
        super().prepare(strategy, state, new, loading)
        assert self.reference is not None
        model = unwrap(strategy.model)
        encoder = encoder_names(model, self.embedding(model))
        self._buffer_names = self.reference.matched(model, self._buffers_of(model))
        self._names = self.reference.matched(model, encoder)
        if self.include_head:
            kept, named = self.reference.tensors, dict(model.named_parameters())
            head = set(named) - set(encoder)
            fits = {n for n in head if n in kept and kept[n].shape == named[n].shape}
            self._names += sorted(fits)
            self.tell_of_the_rest(head - fits)

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Interpolate."""
        if is_last_part(strategy):
            self._interpolate(unwrap(strategy.model))
        super().after_training_exp(strategy, **kwargs)

    @torch.no_grad()
    def _interpolate(self, model: nn.Module) -> None:
        assert self.reference is not None
        named = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        alphas = {"interpolate": self.alpha, "tuned": 1.0, "anchor": 0.0}
        for names, alpha in ((self._names, self.alpha), (self._buffer_names, alphas[self.buffers])):
            tuned = {name: named[name].detach() for name in names}
            kept = {name: self.reference.tensors[name] for name in names}
            for name, value in interpolate(kept, tuned, alpha).items():
                named[name].copy_(value)

    def stop(self) -> None:
        """Forget which weights were anchored."""
        super().stop()
        self._names, self._buffer_names = [], []
