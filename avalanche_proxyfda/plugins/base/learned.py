"""The base of methods whose loss has parameters of its own, and an optimizer for them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn
from typing_extensions import Unpack

from avalanche_proxyfda._checks import check_amount
from avalanche_proxyfda._protocols import Strategy
from avalanche_proxyfda.plugins.base.auto_weight import Weight
from avalanche_proxyfda.plugins.base.embedding import EmbeddingOptions, EmbeddingPlugin

L = TypeVar("L", bound=nn.Module)


class LearnedLossOptions(EmbeddingOptions, total=False):
    """Keyword arguments of the plugins whose loss learns; see :class:`LearnedLossPlugin`."""

    learning_rate: float


class LearnedLossPlugin(EmbeddingPlugin, Generic[L]):
    """Trains the parameters of a loss beside the model.

    The first batch builds the loss, since its size may depend on the width of the features. The
    parameters get the gradient of the strategy's loss. They step with the model, and are kept
    from one experience to the next.

    A call of :meth:`compare` before any training is a trial, which builds a loss too. The first
    batch that trains builds the loss anew, unless the loss's optimizer has stepped.

    A method implements :meth:`build_loss`, and :meth:`compare` with :meth:`loss_for`.

    Args:
        learning_rate: AdamW's learning rate for the loss's parameters, without weight decay.
        options: see :class:`EmbeddingPlugin`.
    """

    def __init__(
        self,
        weight: Weight = 1.0,
        *,
        learning_rate: float = 1e-3,
        **options: Unpack[EmbeddingOptions],
    ) -> None:
        super().__init__(weight, **options)
        self.learning_rate = check_amount("learning_rate", learning_rate)
        self.loss: L | None = None
        self.optimizer: torch.optim.Optimizer | None = None
        self._tried = False  # the loss was built before any training
        self.full_batch = 0
        """Samples of a full batch, where a method knows it; the loss is built for as many."""

    # ---- the loss ---------------------------------------------------------------------

    @abstractmethod
    def build_loss(self, dim: int, batch: int) -> L:
        """Return the loss for features [B, ``dim``] and batches of up to ``batch`` samples."""

    def loss_shape(self) -> tuple[int, int]:
        """Return (dim, batch), with which :meth:`build_loss` builds the same loss again."""
        return (1, 2)

    def loss_for(self, rows: Tensor) -> L:
        """Return the loss; the first batch, ``rows`` [B, D], builds it.

        Raises:
            ValueError: if the loss was built for features of another width.
        """
        if self.loss is None:
            self.loss = self.build_loss(rows.shape[1], max(len(rows), self.full_batch))
            self._place(rows.device)
            self._tried = self.on_trial
        width = self.width()
        if width is not None and width != rows.shape[1]:
            raise ValueError(
                f"the loss of {self.name} has learned from features of width {width}, and the "
                f"batch has width {rows.shape[1]}: read features of one width in every experience "
                "(feature_module), or make a new plugin"
            )
        return self.loss

    def width(self) -> int | None:
        """Return D of the features that the loss takes; None for a loss that takes any width."""
        return None

    def learned(self) -> list[nn.Parameter]:
        """Return the loss's parameters."""
        return [p for p in self.loss.parameters() if p.requires_grad] if self.loss else []

    def _place(self, device: torch.device) -> None:
        """Move the loss to ``device``, and build its optimizer there with the same state."""
        assert self.loss is not None
        self.loss.to(device)
        parameters = self.learned()
        state = self.optimizer.state_dict() if self.optimizer else None
        if parameters:
            self.optimizer = torch.optim.AdamW(parameters, lr=self.learning_rate, weight_decay=0.0)
            if state is not None:
                self.optimizer.load_state_dict(state)
                for group in self.optimizer.param_groups:
                    group["lr"] = self.learning_rate

    # ---- an experience ----------------------------------------------------------------

    def before_training(self, strategy: Strategy, **kwargs: Any) -> None:
        """Drop a loss that was built as a trial and has not learned."""
        super().before_training(strategy, **kwargs)
        if self._tried and not (self.optimizer is not None and self.optimizer.state):
            self.loss = self.optimizer = None
        self._tried = False

    def prepare(
        self, strategy: Strategy, state: Mapping[str, Any], new: bool, loading: Mapping[str, Any]
    ) -> None:
        """Move the loss and its optimizer to the strategy's device."""
        if self.loss is not None:
            self._place(strategy.device)
        if self.optimizer is not None:
            self.optimizer.zero_grad()  # an exception may have ended a step

    def before_update(self, strategy: Strategy, **kwargs: Any) -> None:
        """Step the optimizer of the loss's parameters."""
        if self.optimizer is not None:
            self.optimizer.step()
            # not before each batch: a strategy may accumulate or skip batches
            self.optimizer.zero_grad()

    # ---- saved state ------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the base, the loss, and its optimizer."""
        return {
            **super().state_dict(),
            "shape": self.loss_shape() if self.loss else None,
            "loss": self.loss.state_dict() if self.loss else None,
            "optimizer": self.optimizer.state_dict() if self.optimizer else None,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load ``state``, see :meth:`ReferencePlugin.load_state_dict`."""
        super().load_state_dict(state)
        self.loss = self.optimizer = None
        self._tried = False
        if state["shape"] is not None:
            self.loss = self.build_loss(*state["shape"])
            self.loss.load_state_dict(state["loss"])
            self._place(torch.device("cpu"))
            if state["optimizer"] is not None and self.optimizer is not None:
                self.optimizer.load_state_dict(state["optimizer"])
