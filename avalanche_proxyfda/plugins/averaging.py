"""Trajectory averaging as an Avalanche plugin."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from avalanche_proxyfda._checks import (
    check_choice,
    check_count,
    check_flag,
    check_number_on_weights,
)
from avalanche_proxyfda._protocols import Strategy
from avalanche_proxyfda.features.source import unwrap
from avalanche_proxyfda.plugins.base.lifecycle import ReferenceChoice
from avalanche_proxyfda.plugins.base.merged import MergedPlugin, tensors_of
from avalanche_proxyfda.weights.average import RunningAverage, check_decay

Buffers = Literal["average", "tuned"]


class AveragingPlugin(MergedPlugin, supports_distributed=True):
    """Ships the average of the weights along the training (model soups; ZSCL, ICCV 2023).

    The average begins anew with every experience, at the anchors, and takes a snapshot after
    each optimizer step. A weight that is unfrozen within the experience joins the average at the
    value that it has then. At the end of the experience the average becomes the model, which is
    evaluated and which the next experience starts from. A training step itself stays as it
    is. The plugin stands after AdamSPD, which changes the weights of a step, and before plugins
    that write the model at the end of the experience (WiSE-FT, MagMax); it refuses another
    order.

    ``AveragingPlugin(None, every=100)`` is ZSCL's weight ensemble: the mean of the start and of
    every hundredth step.

    Args:
        decay: share of the average that a snapshot leaves in place, in [0, 1); 0 ships the
            newest snapshot. None takes the mean of the start and all snapshots.
        every: optimizer steps from one snapshot to the next.
        feature_module, name: see :class:`AnchorPlugin`.
        anchor: where the average of the encoder begins: ``"previous"``, at the weights at the
            start of the experience, or ``"initial"``, at the weights as given.
        buffers: ``"average"`` treats BatchNorm's running statistics and other floating-point
            buffers of the encoder like weights; ``"tuned"`` keeps those of training.
        include_head: also average the head's weights, from their values at the start of the
            experience. False keeps the head's weights of training.

    Raises:
        TypeError, ValueError: for an option of the wrong type or out of range, and at the first
            training for plugins in another order.

    Example:
        >>> import torch
        >>> from avalanche.training import Naive
        >>> from avalanche_proxyfda import AveragingPlugin
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Linear(3, 2))
        >>> optimizer = torch.optim.AdamW(model.parameters())
        >>> plugin = AveragingPlugin(None, every=100)  # ZSCL's weight ensemble
        >>> strategy = Naive(model=model, optimizer=optimizer, plugins=[plugin], train_mb_size=64)
        >>> plugin.decay, plugin.every, plugin.buffers
        (None, 100, 'average')
    """

    def __init__(
        self,
        decay: float | None = 0.999,
        *,
        every: int = 1,
        feature_module: str | None = None,
        anchor: ReferenceChoice = "previous",
        buffers: Buffers = "average",
        include_head: bool = True,
        name: str | None = None,
    ) -> None:
        super().__init__(feature_module=feature_module, anchor=anchor, name=name)
        number = None if decay is None else check_number_on_weights("decay", decay)
        self.decay = None if number is None else check_decay("decay", number)
        self.every = check_count("every", every, 1)
        check_choice("buffers", buffers, get_args(Buffers))
        self.buffers: Buffers = buffers
        self.average_head = check_flag("include_head", include_head)
        self.follows_weights = True
        self.average: RunningAverage | None = None
        """The average of this experience; None between experiences."""
        self._taken: dict[str, Tensor] = {}  # the model's tensors, by the average's names

    def prepare(
        self, strategy: Strategy, state: Mapping[str, Any], new: bool, loading: Mapping[str, Any]
    ) -> None:
        """Begin the average of an experience; restore or go on with one that has begun."""
        for plugin in self.plugins_before(strategy):
            if isinstance(plugin, MergedPlugin):
                name = type(plugin).__name__
                raise ValueError(
                    f"at the end of an experience AveragingPlugin would replace the weights of "
                    f"{name}: put AveragingPlugin before {name} in plugins"
                )
        super().prepare(strategy, state, new, loading)
        model = unwrap(strategy.model)
        begun = None if new else self.average
        if state:
            begun = RunningAverage({}, self.decay, self.every)
            kept = state["average"]
            begun.tensors = {n: v.to(strategy.device) for n, v in kept["tensors"].items()}
            begun.steps, begun.count = int(kept["steps"]), int(kept["count"])
        allowed, start = self._allowed(model), self._start(model)
        if begun is not None:  # with weights that are frozen now; a new tensor starts as it stands
            fits = {n for n, v in begun.tensors.items() if n in allowed}
            fits = {n for n in fits if begun.tensors[n].shape == allowed[n].shape}
            start |= {name: allowed[name] for name in fits}
        self.average = RunningAverage(start, self.decay, self.every)
        if begun is not None:
            self.average.steps, self.average.count = begun.steps, begun.count
            known = self.average.tensors
            known |= {name: begun.tensors[name].to(known[name].dtype) for name in fits}
        self._taken = {name: allowed[name] for name in start}

    def _allowed(self, model: nn.Module) -> dict[str, Tensor]:
        """Return the tensors of ``model`` that the options let into the average, frozen ones too.

        They are weights of the encoder with an anchor, buffers, and weights of the head.
        """
        encoder, tensors = set(self.anchored(model)), tensors_of(model)
        buffers = self._buffer_names if self.buffers == "average" else []
        head = [n for n, _ in model.named_parameters() if n not in encoder]
        names = [*self._names, *buffers, *(head if self.average_head else [])]
        return {name: tensors[name] for name in names}

    def _start(self, model: nn.Module) -> dict[str, Tensor]:
        """Return where the average of trainable weights and buffers begins: at their anchors.

        The head has none, and begins as it stands.
        """
        assert self.reference is not None
        anchors, encoder = self.reference.tensors, set(self.anchored(model))
        fixed = {n for n, p in model.named_parameters() if not p.requires_grad}
        moving = {n: t for n, t in self._allowed(model).items() if n not in fixed}
        return {name: anchors[name] if name in encoder else t for name, t in moving.items()}

    def pair_again(self, model: nn.Module) -> None:
        """Add weights of ``model`` to the average that were unfrozen since the last step."""
        super().pair_again(model)
        assert self.average is not None
        allowed, start = self._allowed(model), self._start(model)
        late = {name: value for name, value in start.items() if name not in self._taken}
        if self.average.steps:
            late = {name: allowed[name] for name in late}
        self.average.add(late)
        self._taken |= {name: allowed[name] for name in late}

    def after_update(self, strategy: Strategy, **kwargs: Any) -> None:
        """Count the step; take a snapshot if one is due."""
        assert self.average is not None
        self.average.step(self._taken)

    def after_training_exp(self, strategy: Strategy, **kwargs: Any) -> None:
        """Write the average to the model at the end of the experience."""
        if self.is_last_part(strategy):
            self._ship()
        super().after_training_exp(strategy, **kwargs)
        if self.is_last_part(strategy):
            self.average = None

    def followed_statistics(self) -> list[Tensor]:
        """Return the averages of buffers, which follow those of each rank's model."""
        if self.average is None:
            return []
        known = self.average.tensors
        names = sorted(name for name in self._buffer_names if name in known)
        return [known[name] for name in names if known[name].is_floating_point()]

    @torch.no_grad()
    def _ship(self) -> None:
        assert self.average is not None
        if self.average.count == 0:
            self.warn_once(
                "no snapshot",
                f"{self.name} keeps the weights of training: the experience has "
                f"{self.average.steps} steps, and every={self.every} takes no snapshot of them; "
                "lower every (this warning comes once)",
            )
            return
        for name, value in self.average.tensors.items():
            self._taken[name].copy_(value)

    def stop(self) -> None:
        """End an experience; release the model's tensors."""
        super().stop()
        self._taken = {}

    def state_dict(self) -> dict[str, Any]:
        """Return the anchors, and the average of an experience that has begun."""
        own = self.average
        here = None if own is None else {n: getattr(own, n) for n in ("tensors", "steps", "count")}
        return {**super().state_dict(), "average": self.pending.get("average", here)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load ``state``, see :meth:`ReferencePlugin.load_state_dict`."""
        super().load_state_dict(state)
        self.average = None
