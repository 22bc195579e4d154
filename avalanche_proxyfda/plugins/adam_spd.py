"""AdamSPD as an Avalanche plugin."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from avalanche_proxyfda._checks import check_flag
from avalanche_proxyfda._protocols import Strategy
from avalanche_proxyfda.distributed.plugin import share_of
from avalanche_proxyfda.plugins.base.anchored import AnchorPlugin
from avalanche_proxyfda.plugins.base.lifecycle import ReferenceChoice
from avalanche_proxyfda.weights.spd import SelectiveDecay


class AdamSPDPlugin(AnchorPlugin, supports_distributed=True):
    """Shortens steps of Adam that lead away from the anchors (Tian et al., NeurIPS 2024).

    The plugin acts around the optimizer's step: on the encoder's trainable tensors, each by
    itself. Plugins that change gradients may stand before or after it; plugins that average the
    weights after a step must stand after it. Metrics:
    ``AdamSPD_ratio``, the mean part of its distance to the anchor that a tensor loses at
    ``weight`` 1, and
    ``AdamSPD_selected``, the share of tensors whose step is shortened.

    Args:
        weight: w, 0 leaves the optimizer's step as it is, and 1 takes away all that leads
            further from the anchor.
        any_optimizer: True acts on the steps of any optimizer. False refuses optimizers other
            than Adam and AdamW, for which the method was made.
        feature_module, anchor, name: see :class:`AnchorPlugin`.

    Raises:
        TypeError, ValueError: for an option of the wrong type or out of range, and at the first
            training for another optimizer or another order of plugins.

    Example:
        >>> import torch
        >>> from avalanche.training import Naive
        >>> from avalanche_proxyfda import AdamSPDPlugin, AveragingPlugin
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Linear(3, 2))
        >>> optimizer = torch.optim.AdamW(model.parameters())
        >>> plugins = [AdamSPDPlugin(weight=0.5), AveragingPlugin()]  # in this order
        >>> strategy = Naive(model=model, optimizer=optimizer, plugins=plugins, train_mb_size=64)
        >>> [plugin.name for plugin in plugins], plugins[0].weight
        (['AdamSPD', 'Averaging'], 0.5)
    """

    def __init__(
        self,
        weight: float = 1.0,
        *,
        any_optimizer: bool = False,
        feature_module: str | None = None,
        anchor: ReferenceChoice = "previous",
        name: str | None = None,
    ) -> None:
        super().__init__(feature_module=feature_module, anchor=anchor, name=name)
        self.decay = SelectiveDecay(weight)
        self.any_optimizer = check_flag("any_optimizer", any_optimizer)

    @property
    def weight(self) -> float:
        """Factor w of the decay."""
        return self.decay.weight

    def prepare(
        self, strategy: Strategy, state: Mapping[str, Any], new: bool, loading: Mapping[str, Any]
    ) -> None:
        """Refuse other optimizers and another order of plugins; pair weights and anchors."""
        kind = type(strategy.optimizer)
        if not self.any_optimizer and not issubclass(kind, (torch.optim.Adam, torch.optim.AdamW)):
            raise TypeError(
                f"AdamSPDPlugin acts on steps of Adam and AdamW, and the optimizer is "
                f"{kind.__name__}: take torch.optim.AdamW, or any_optimizer=True, which is not the "
                "published method"
            )
        for plugin in self.plugins_before(strategy):
            if plugin.follows_weights:
                raise ValueError(
                    f"{type(plugin).__name__} averages the weights of a step before "
                    "AdamSPDPlugin shortens it: put AdamSPDPlugin before it in plugins"
                )
        super().prepare(strategy, state, new, loading)

    def before_update(self, strategy: Strategy, **kwargs: Any) -> None:
        """Note distances and gradients' directions."""
        self.decay.before_step(self.weights, self.anchors)

    def after_update(self, strategy: Strategy, **kwargs: Any) -> None:
        """Shorten the optimizer's step."""
        self._log.add(self.decay.after_step(), share_of(strategy))

    def stop(self) -> None:
        """End an experience; forget a step that was broken off."""
        super().stop()
        self.decay.forget()
