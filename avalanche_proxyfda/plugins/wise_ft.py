"""WiSE-FT as an Avalanche plugin."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

import torch
from torch import nn

from avalanche_proxyfda._checks import check_choice
from avalanche_proxyfda._protocols import Strategy
from avalanche_proxyfda.features.source import unwrap
from avalanche_proxyfda.plugins.base.lifecycle import ReferenceChoice
from avalanche_proxyfda.plugins.base.merged import MergedPlugin, tensors_of
from avalanche_proxyfda.plugins.magmax import MagMaxPlugin
from avalanche_proxyfda.weights.interpolate import BufferChoice, check_alpha, interpolate


class WiSEFTPlugin(MergedPlugin, supports_distributed=True):
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

    Example:
        >>> import torch
        >>> from avalanche.training import Naive
        >>> from avalanche_proxyfda import WiSEFTPlugin
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Linear(3, 2))
        >>> optimizer = torch.optim.AdamW(model.parameters())
        >>> plugin = WiSEFTPlugin(alpha=0.8)  # 0.2 anchors + 0.8 weights, after each experience
        >>> strategy = Naive(model=model, optimizer=optimizer, plugins=[plugin], train_mb_size=64)
        >>> plugin.alpha, plugin.buffers
        (0.8, 'interpolate')
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
        super().__init__(
            feature_module=feature_module, anchor=anchor, include_head=include_head, name=name
        )
        self.alpha = check_alpha(alpha)
        check_choice("buffers", buffers, get_args(BufferChoice))
        self.buffers: BufferChoice = buffers

    def prepare(
        self, strategy: Strategy, state: Mapping[str, Any], new: bool, loading: Mapping[str, Any]
    ) -> None:
        """Match weights and anchors; refuse a place behind MagMaxPlugin.

        Raises:
            ValueError: behind a :class:`~avalanche_proxyfda.MagMaxPlugin`, which would keep the
                weights before the interpolation.
        """
        if any(isinstance(plugin, MagMaxPlugin) for plugin in self.plugins_before(strategy)):
            raise ValueError(
                "MagMaxPlugin would merge the weights before WiSEFTPlugin interpolates them: put "
                "WiSEFTPlugin before MagMaxPlugin in plugins"
            )
        super().prepare(strategy, state, new, loading)

    def after_training_exp(self, strategy: Strategy, **kwargs: Any) -> None:
        """Interpolate at the end of the experience."""
        if self.is_last_part(strategy):
            self._interpolate(unwrap(strategy.model))
        super().after_training_exp(strategy, **kwargs)

    @torch.no_grad()
    def _interpolate(self, model: nn.Module) -> None:
        assert self.reference is not None
        tensors = tensors_of(model)
        alphas = {"interpolate": self.alpha, "tuned": 1.0, "anchor": 0.0}
        for names, alpha in ((self._names, self.alpha), (self._buffer_names, alphas[self.buffers])):
            tuned = {name: tensors[name].detach() for name in names}
            anchors = {name: self.reference.tensors[name] for name in names}
            for name, value in interpolate(anchors, tuned, alpha).items():
                tensors[name].copy_(value)
