"""Mixed precision and accumulated gradients for Avalanche's SGD strategies."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from avalanche.training import Naive
from avalanche.training.plugins import AGEMPlugin, GEMPlugin, GSS_greedyPlugin
from torch import Tensor

from avalanche_proxyfda._checks import check_count
from avalanche_proxyfda._random import RandomState
from avalanche_proxyfda.strategies.lookahead import look_ahead
from avalanche_proxyfda.strategies.precision import Precision, autocast, check_precision

if TYPE_CHECKING:
    from avalanche.training.templates import SupervisedTemplate as _Strategy
else:  # Avalanche checks arguments against the parents of a class, so the chain must not end here
    _Strategy = object

_LEAST_SCALE = 2.0**-14  # below this loss scale, the gradients themselves are not finite
_OWN_BACKWARD = (AGEMPlugin, GEMPlugin, GSS_greedyPlugin)


class EfficientTraining(_Strategy):
    """Mixin that adds mixed precision and gradient accumulation to an SGD strategy.

    The mixin stands before the strategy: ``class EfficientReplay(EfficientTraining, Replay)``.
    :class:`EfficientNaive` is such a class. With the default options, training is the
    strategy's to the bit.

    *Precision.* The strategy's forward and criterion run under autocast, in training and in
    evaluation, so accuracy measures the model as it trains. Weights, gradients and the losses
    of this package stay float32. With ``"fp16"``, ``scaler`` scales the loss. It unscales the
    gradients of the strategy's optimizer and of each plugin's ``optimizer`` before
    ``before_update``. If a gradient is not finite, the step is skipped: all gradients are
    dropped, and ``before_update`` and ``after_update`` do not fire.

    *Accumulation.* The loader's batches are micro-batches, and an optimizer step has
    ``accumulate`` of them. Each micro-batch fires the callbacks of an iteration;
    ``before_update`` and ``after_update`` fire once a step. The weight of a micro-batch's loss
    is its share of the step's samples. A mean over samples is therefore the mean over the
    whole step, and a term on weights counts once. The last step of an epoch has the remaining
    micro-batches. ``stop_training`` takes effect after the step.

    Args:
        precision: ``"float32"``, ``"bf16"`` or ``"fp16"``.
        accumulate: number of micro-batches in an optimizer step.
        kwargs: arguments of the strategy.

    Attributes:
        scaler: torch's ``GradScaler`` with ``"fp16"``, else None.
        pending_micro_batches: number of micro-batches whose gradients the optimizer has not
            applied. It is 0 after a step; only then is a checkpoint complete.
        share: the micro-batch's share of the step's samples.
        skipped_updates: number of steps skipped because a gradient was not finite.
        extra_forwards: number of forwards without gradient for ``graph_from="accumulated"``.

    Raises:
        TypeError: for a subclass whose strategy has its own training loop, or stands before
            the mixin; or for an ``accumulate`` that is no int.
        ValueError: for a bad option, a precision that the device does not support, a criterion
            that sums, or a plugin that runs its own backward passes inside a step.

    Example:
        >>> import torch
        >>> from avalanche.training import Replay
        >>> from avalanche_proxyfda import EfficientTraining
        >>> class EfficientReplay(EfficientTraining, Replay): ...
        >>> model, criterion = torch.nn.Linear(4, 2), torch.nn.CrossEntropyLoss()
        >>> options = {"optimizer": torch.optim.AdamW(model.parameters()), "criterion": criterion}
        >>> strategy = EfficientReplay(model=model, mem_size=200, accumulate=4, **options)
        >>> strategy.accumulate, strategy.precision
        (4, 'float32')
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
        self.scaler = _Scaler(self.device.type) if precision == "fp16" else None
        self.pending_micro_batches = 0
        self.share = 1.0
        self.skipped_updates = self.extra_forwards = 0
        self._random_state: RandomState | None = None  # the next forward draws from it again
        self._check_compatible()

    def _check_compatible(self) -> None:
        """Raise ValueError if the criterion or a plugin does not fit the options."""
        if self.accumulate == 1 and self.scaler is None:
            return
        reduction = getattr(self._criterion, "reduction", "mean")
        if self.accumulate > 1 and reduction != "mean":
            raise ValueError(
                f"accumulate={self.accumulate} needs a criterion that is a mean over samples, "
                f"and its reduction is {reduction!r}: pass a criterion with reduction='mean'"
            )
        for plugin in self.plugins:
            if isinstance(plugin, _OWN_BACKWARD):
                raise ValueError(
                    f"{type(plugin).__name__} runs backward passes of its own inside a step, and "
                    "these change the accumulated or scaled gradients: pass accumulate=1 and "
                    "precision='float32' or 'bf16'"
                )

    # ---- precision --------------------------------------------------------------------

    def forward(self) -> Any:
        """Return the model's output for the present batch, under autocast."""
        state, self._random_state = self._random_state, None
        again = nullcontext() if state is None else state.again()
        with autocast(self.precision, self.device, self.model), again:
            return super().forward()

    def criterion(self) -> Tensor:
        """Return the criterion's loss of the present batch, under autocast."""
        with autocast(self.precision, self.device):
            loss: Tensor = super().criterion()
        return loss

    def backward(self) -> None:
        """Accumulate the gradients of the loss times the micro-batch's share."""
        loss = self.loss if self.share == 1.0 else self.loss * self.share
        if self.scaler is not None:
            loss = self.scaler.scale(loss)
        loss.backward(retain_graph=self.retain_graph)

    def _gradients_are_usable(self) -> bool:
        """Unscale all gradients; drop them and return False if one is not finite."""
        if self.scaler is None:
            return True
        before, optimizers = self.scaler.get_scale(), self._optimizers()
        for optimizer in optimizers:
            self.scaler.unscale_(optimizer)
        self.scaler.update()  # lowers the scale if a gradient is not finite
        after = self.scaler.get_scale()
        if after >= before:
            return True
        if after < _LEAST_SCALE:
            raise ValueError(
                f"gradients are not finite even at a loss scale of {before:g}: training has "
                "diverged; lower the learning rate, or pass precision='bf16'"
            )
        self.skipped_updates += 1
        for optimizer in optimizers:
            optimizer.zero_grad()
        return False

    def _optimizers(self) -> list[torch.optim.Optimizer]:
        """Return the optimizers of the strategy and of its plugins, without duplicates."""
        candidates = [self.optimizer, *(getattr(p, "optimizer", None) for p in self.plugins)]
        return list(dict.fromkeys(o for o in candidates if isinstance(o, torch.optim.Optimizer)))

    # ---- accumulation -----------------------------------------------------------------

    def training_epoch(self, **kwargs: Any) -> None:
        """Train for one epoch, with ``accumulate`` of the loader's batches a step."""
        self.pending_micro_batches = 0  # an exception may have left a partial step
        batches = self._batches()
        while group := list(islice(batches, self.accumulate)):
            if self._stop_training:
                break
            self._train_on(group, **kwargs)

    def _batches(self) -> Iterator[Any]:
        """Return the loader's batches of one epoch."""
        return iter(self.dataloader)

    def _train_on(self, group: list[Any], **kwargs: Any) -> None:
        """Train on the micro-batches of one optimizer step."""
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
        """Run forward and backward for the present micro-batch."""
        self._before_forward(**kwargs)
        self.mb_output = self.forward()
        self._after_forward(**kwargs)
        loss, empty = self.criterion(), self._make_empty_loss()
        # Avalanche adds in place, which would round a float64 loss
        self.loss = empty.to(torch.promote_types(empty.dtype, loss.dtype)) + loss
        self._before_backward(**kwargs)
        self.backward()
        self._after_backward(**kwargs)


def _check_parents(kind: type) -> None:
    """Raise TypeError unless ``kind`` trains by EfficientTraining's loop."""
    before = True  # the parent stands before the mixin
    for parent in kind.__mro__:
        module = parent.__module__
        before = before and parent is not EfficientTraining
        if issubclass(parent, EfficientTraining) or not module.startswith("avalanche."):
            continue
        if before:
            raise TypeError(
                f"{kind.__name__} has {parent.__name__} before EfficientTraining, which would then "
                f"have no effect: write class {kind.__name__}(EfficientTraining, {parent.__name__})"
            )
        for name in ("training_epoch", "backward", "optimizer_step"):
            if name in vars(parent) and not module.startswith("avalanche.training.templates"):
                raise TypeError(
                    f"{parent.__name__} has a {name}() of its own, so {kind.__name__} could not "
                    "accumulate or scale its gradients: use a strategy that trains by Avalanche's "
                    "own loop (Naive, Replay, EWC, Cumulative, JointTraining, …)"
                )


class _Scaler(torch.amp.GradScaler):
    """Torch's scaler that reads its scale from the device once after each change."""

    _known: float | None = None

    def get_scale(self) -> float:
        """Return the scale."""
        if self._known is None:
            self._known = float(super().get_scale())
        return self._known

    def update(self, new_scale: float | Tensor | None = None) -> None:
        """Change the scale by the gradients of the step, or to ``new_scale``."""
        self._known = None
        super().update(new_scale)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load scale and settings."""
        self._known = None
        super().load_state_dict(state_dict)


class EfficientNaive(EfficientTraining, Naive):
    """Avalanche's ``Naive`` with mixed precision and accumulation.

    Example:
        >>> import torch
        >>> from avalanche_proxyfda import EfficientNaive
        >>> model = torch.nn.Linear(4, 2)
        >>> optimizer = torch.optim.AdamW(model.parameters())
        >>> sizes = {"train_mb_size": 32, "accumulate": 4}  # an optimizer step has 128 samples
        >>> strategy = EfficientNaive(model=model, optimizer=optimizer, precision="bf16", **sizes)
        >>> strategy.precision, strategy.accumulate * strategy.train_mb_size
        ('bf16', 128)
    """
