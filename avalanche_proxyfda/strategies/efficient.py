"""Mixed precision and accumulated gradients for Avalanche's SGD strategies."""

from __future__ import annotations

from contextlib import nullcontext
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from avalanche.training import Naive
from avalanche.training.plugins import AGEMPlugin, GEMPlugin, GSS_greedyPlugin
from torch import Tensor

from avalanche_proxyfda.losses.base import check_count
from avalanche_proxyfda.strategies.lookahead import RandomState, look_ahead
from avalanche_proxyfda.strategies.precision import Precision, autocast, check_precision

if TYPE_CHECKING:
    from avalanche.training.templates import SupervisedTemplate as _Strategy
else:  # Avalanche checks arguments against a class's own parents, which must not end here
    _Strategy = object

_LEAST_SCALE = 2.0**-14  # a loss scale below this helps nobody: the gradients are not finite
_OWN_BACKWARD = (AGEMPlugin, GEMPlugin, GSS_greedyPlugin)


class EfficientTraining(_Strategy):
    """Mixed precision and gradient accumulation, put before any SGD strategy.

    ``class EfficientReplay(EfficientTraining, Replay): ...``; :class:`EfficientNaive` is
    ready-made. With the defaults nothing changes, to the bit.

    *Precision.* The strategy's forward and criterion run under autocast, in training and in
    evaluation, so that accuracy is of the model as it is trained; weights, gradients and the
    losses of this package stay float32. With ``"fp16"`` the loss is scaled by ``scaler``.
    Gradients of the strategy's optimizer and of each plugin's ``optimizer`` are unscaled
    before ``before_update``. Where one of them is not finite the step is not taken, by
    anyone: ``before_update`` and ``after_update`` do not fire, and the gradients are dropped.

    *Accumulation.* The loader's batches are micro-batches, ``accumulate`` of them an optimizer
    step. Each fires the callbacks of an iteration; ``before_update`` and ``after_update`` fire
    at the step alone. Each micro-batch's loss counts by its share of the step's samples, so
    means over samples are means over all of them, and a term on weights counts once. The last
    step of an epoch takes what is left. ``stop_training`` takes effect after the step.

    Args:
        precision: ``"float32"``, ``"bf16"`` or ``"fp16"``.
        accumulate: micro-batches an optimizer step.
        kwargs: the strategy's own.

    Attributes:
        scaler: torch's ``GradScaler`` with ``"fp16"``, else None.
        pending_micro_batches: micro-batches whose gradients are not applied yet; 0 right after
            a step, the only time when a state is whole.
        share: the present micro-batch's share of its step's samples.
        skipped_updates: steps not taken since gradients were not finite.
        extra_forwards: forwards without gradient that were made for ``graph_from="accumulated"``.

    Raises:
        TypeError: when a class is made of a strategy with a training loop of its own, or of a
            strategy put before this.
        ValueError: for a bad option, a precision that the device does not have, a criterion
            that sums, or a plugin that runs backward passes of its own inside a step.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        _check_parents(cls)

    def __init__(
        self, *, precision: Precision = "float32", accumulate: int = 1, **kwargs: Any
    ) -> None:
        check_count("accumulate", accumulate, 1)
        super().__init__(**kwargs)
        check_precision(precision, self.device)
        self.precision: Precision = precision
        self.accumulate = accumulate
        self.scaler = torch.amp.GradScaler(self.device.type) if precision == "fp16" else None
        self.pending_micro_batches = 0
        self.share = 1.0
        self.skipped_updates = self.extra_forwards = 0
        self._random_state: RandomState | None = None  # that the next forward is to repeat
        self._check_fellows()

    def _check_fellows(self) -> None:
        if self.accumulate == 1 and self.scaler is None:
            return
        reduction = getattr(self._criterion, "reduction", "mean")
        if self.accumulate > 1 and reduction != "mean":
            raise ValueError(
                f"accumulate={self.accumulate} needs a criterion that is a mean over samples, "
                f"but its reduction is {reduction!r}: take reduction='mean'"
            )
        for plugin in self.plugins:
            if isinstance(plugin, _OWN_BACKWARD):
                raise ValueError(
                    f"{type(plugin).__name__} runs backward passes of its own inside a step, on "
                    "the gradients that are accumulated or scaled: take accumulate=1 and "
                    "precision='float32' or 'bf16' with it"
                )

    # ---- precision --------------------------------------------------------------------

    def forward(self) -> Any:
        """The model's output for the present batch, under autocast."""
        state, self._random_state = self._random_state, None
        again = nullcontext() if state is None else state.again()
        with autocast(self.precision, self.device), again:
            return super().forward()

    def criterion(self) -> Tensor:
        """The criterion, under the same autocast."""
        with autocast(self.precision, self.device):
            loss: Tensor = super().criterion()
        return loss

    def backward(self) -> None:
        """Add the gradients of the present micro-batch's share of the loss."""
        loss = self.loss if self.share == 1.0 else self.loss * self.share
        if self.scaler is not None:
            loss = self.scaler.scale(loss)
        loss.backward(retain_graph=self.retain_graph)

    def _gradients_are_usable(self) -> bool:
        """Unscale all gradients; where one is not finite drop them all, and say so."""
        if self.scaler is None:
            return True
        before, optimizers = self.scaler.get_scale(), self._optimizers()
        for optimizer in optimizers:
            self.scaler.unscale_(optimizer)
        self.scaler.update()  # lowers the scale where one of them found a value not finite
        after = self.scaler.get_scale()
        if after >= before:
            return True
        if after < _LEAST_SCALE:
            raise ValueError(
                f"gradients are not finite even at a loss scale of {before:g}: training has "
                "diverged; lower the learning rate, or take precision='bf16'"
            )
        self.skipped_updates += 1
        for optimizer in optimizers:
            optimizer.zero_grad()
        return False

    def _optimizers(self) -> list[torch.optim.Optimizer]:
        """The strategy's, and those that plugins own."""
        found = [self.optimizer, *(getattr(p, "optimizer", None) for p in self.plugins)]
        return list(dict.fromkeys(o for o in found if isinstance(o, torch.optim.Optimizer)))

    # ---- accumulation -----------------------------------------------------------------

    def training_epoch(self, **kwargs: Any) -> None:
        """Train on the loader's batches, ``accumulate`` of them a step."""
        self.pending_micro_batches = 0  # what an exception may have left is dropped
        batches = iter(self.dataloader)
        while group := list(islice(batches, self.accumulate)):
            if self._stop_training:
                break
            self._train_on(group, **kwargs)

    def _train_on(self, group: list[Any], **kwargs: Any) -> None:
        """One optimizer step."""
        sizes = [len(batch[0]) for batch in group]
        states = look_ahead(self, group)
        for self.mbatch, size, state in zip(group, sizes, states, strict=True):
            self.share, self._random_state = size / sum(sizes), state
            self._unpack_minibatch()
            self._before_training_iteration(**kwargs)
            if self.pending_micro_batches == 0:
                self.optimizer.zero_grad()
            self._backpropagate(**kwargs)
            self.pending_micro_batches += 1
            if self.pending_micro_batches == len(group):
                if self._gradients_are_usable():
                    self._before_update(**kwargs)
                    self.optimizer_step()
                    self.pending_micro_batches = 0
                    self._after_update(**kwargs)
                self.pending_micro_batches = 0
            self._after_training_iteration(**kwargs)

    def _backpropagate(self, **kwargs: Any) -> None:
        """Forward and backward of the present micro-batch."""
        self._before_forward(**kwargs)
        self.mb_output = self.forward()
        self._after_forward(**kwargs)
        loss, empty = self.criterion(), self._make_empty_loss()
        # in place, as Avalanche adds, a float64 loss would be rounded
        self.loss = empty.to(torch.promote_types(empty.dtype, loss.dtype)) + loss
        self._before_backward(**kwargs)
        self.backward()
        self._after_backward(**kwargs)


def _check_parents(kind: type) -> None:
    """Raise TypeError unless ``kind`` trains by the loop above, in place of Avalanche's own."""
    before = True  # of the mixin
    for parent in kind.__mro__:
        module = parent.__module__
        before = before and parent is not EfficientTraining
        if issubclass(parent, EfficientTraining) or not module.startswith("avalanche."):
            continue
        if before:
            raise TypeError(
                f"{kind.__name__} has {parent.__name__} before EfficientTraining, so nothing of it "
                f"would be used: write class {kind.__name__}(EfficientTraining, {parent.__name__})"
            )
        for name in ("training_epoch", "backward", "optimizer_step"):
            if name in vars(parent) and not module.startswith("avalanche.training.templates"):
                raise TypeError(
                    f"{parent.__name__} has a {name}() of its own, so {kind.__name__} could not "
                    "accumulate or scale its gradients: use strategies that train by Avalanche's "
                    "own loop (Naive, Replay, EWC, Cumulative, JointTraining, …)"
                )


class EfficientNaive(EfficientTraining, Naive):
    """Avalanche's ``Naive`` with mixed precision and accumulation."""
