"""RIFT as an Avalanche plugin."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from typing_extensions import Unpack

from avalanche_proxyfda._protocols import Strategy
from avalanche_proxyfda.losses.rift import RIFTLoss, Rotation
from avalanche_proxyfda.plugins.base.auto_weight import Weight
from avalanche_proxyfda.plugins.base.learned import LearnedLossOptions, LearnedLossPlugin
from avalanche_proxyfda.plugins.base.lifecycle import Terms


class RIFTPlugin(LearnedLossPlugin[RIFTLoss], supports_distributed=True):
    """Keeps the covariance of the embeddings of each batch (arXiv 2503.07399).

    With ``q="learned"``, the rotation Q descends the same term as the model. Q begins at the
    identity with each new teacher: in every experience with ``teacher="previous"``, and once
    with ``teacher="initial"``. Metric: ``RIFT_covariance``.

    Args:
        weight: coefficient of the loss, or ``"auto"``; the authors choose theirs on a grid of
            unknown values.
        q: the rotation of the teacher's covariance: ``"identity"`` has none, ``"spectrum"`` and
            ``"procrustes"`` take the best one of each batch, ``"learned"`` learns it.
        mean_weight: weight of the term of the means; 0 skips it.
        centered: False compares second moments in place of covariances.
        learning_rate: AdamW's learning rate for the learned Q.
        options: see :class:`LearnedLossPlugin`.

    Example:
        >>> import torch
        >>> from avalanche.training import Naive
        >>> from avalanche_proxyfda import RIFTPlugin
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Linear(3, 2))
        >>> optimizer = torch.optim.AdamW(model.parameters())
        >>> plugin = RIFTPlugin(weight=0.5, q="identity")
        >>> strategy = Naive(model=model, optimizer=optimizer, plugins=[plugin], train_mb_size=64)
        >>> plugin.compare(-torch.eye(3), torch.eye(3))  # the covariance of X is that of -X
        {'covariance': (0.5, tensor(0.))}
    """

    def __init__(
        self,
        weight: Weight = 1.0,
        *,
        q: Rotation = "identity",
        mean_weight: float = 0.0,
        centered: bool = True,
        **options: Unpack[LearnedLossOptions],
    ) -> None:
        super().__init__(weight, **options)
        self.q: Rotation = q
        self.loss_options: dict[str, Any] = {
            "q": q,
            "mean_weight": mean_weight,
            "centered": centered,
        }
        self.build_loss(1, 2)  # refuses bad options now, not at the first batch

    def build_loss(self, dim: int, batch: int) -> RIFTLoss:
        """Return RIFT's loss, which takes any ``batch``; only a learned Q depends on ``dim``."""
        return RIFTLoss(**self.loss_options, dim=dim if self.q == "learned" else None)

    def loss_shape(self) -> tuple[int, int]:
        """Return the width of a learned Q, and the smallest batch."""
        return ((self.loss.dim if self.loss else None) or 1, 2)

    def width(self) -> int | None:
        """Return the width of a learned Q; None without one."""
        return self.loss.dim if self.loss else None

    def prepare(
        self, strategy: Strategy, state: Mapping[str, Any], new: bool, loading: Mapping[str, Any]
    ) -> None:
        """Forget Q and its optimizer if the experience has a new teacher."""
        if new and self.choice != "initial":
            self.loss = self.optimizer = None
        super().prepare(strategy, state, new, loading)

    def compare(self, student: Tensor, teacher: Tensor) -> Terms:
        """Return the term ``covariance``; both inputs are [B, D]."""
        return {"covariance": (self.weight, self.loss_for(student)(student, teacher))}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load ``state``, see :meth:`ReferencePlugin.load_state_dict`."""
        if self.q != "learned":  # states from before there was a learned Q hold no loss
            state = {"shape": None, "loss": None, "optimizer": None, **state}
        super().load_state_dict(state)
