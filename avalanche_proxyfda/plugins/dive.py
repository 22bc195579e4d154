"""DiVE's image term as an Avalanche plugin."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from typing_extensions import Unpack

from avalanche_proxyfda._protocols import Strategy
from avalanche_proxyfda.losses.dive import DiVELoss
from avalanche_proxyfda.plugins.base.auto_weight import Weight
from avalanche_proxyfda.plugins.base.beside import Beside
from avalanche_proxyfda.plugins.base.embedding import EmbeddingOptions
from avalanche_proxyfda.plugins.base.lifecycle import TeacherChoice, Terms
from avalanche_proxyfda.plugins.base.reference_only import ReferenceOnlyPlugin


class DiVEPlugin(ReferenceOnlyPlugin, supports_distributed=True):
    """Lets all reference features move by one vector (Suzuki et al., AAAI 2026, second-hand).

    The plugin holds the image term alone. The running mean of the difference vectors advances
    once a batch of reference images, before the batch is compared. A new teacher sets it to
    zero. Metric: ``DiVE_reference_differences``.

    Args:
        weight: coefficient of the loss, or ``"auto"``.
        decay: share of the earlier mean, from 0 to below 1.
        teacher: ``"initial"``, the model as given, as in the paper, ``"previous"`` or
            ``"averaged"``.
        options: see :class:`EmbeddingPlugin`.

    Example:
        >>> import torch
        >>> from avalanche.models import SimpleMLP
        >>> from avalanche.training import Naive
        >>> from avalanche_proxyfda import DiVEPlugin, ReferenceData
        >>> model = SimpleMLP(num_classes=2, input_size=3 * 4 * 4, hidden_size=8)
        >>> data = ReferenceData(torch.rand(16, 3, 4, 4), batch=8)
        >>> plugin = DiVEPlugin(weight=0.5, decay=0.9, reference_data=data)
        >>> optimizer = torch.optim.AdamW(model.parameters())
        >>> strategy = Naive(model=model, optimizer=optimizer, plugins=[plugin], train_mb_size=64)
        >>> plugin.loss.decay, plugin.choice  # the teacher is the model as given
        (0.9, 'initial')
    """

    def __init__(  # type: ignore[misc]  # the class has another default of teacher
        self,
        weight: Weight = 1.0,
        *,
        decay: float = 0.99,
        teacher: TeacherChoice = "initial",
        **options: Unpack[EmbeddingOptions],
    ) -> None:
        super().__init__(weight, teacher=teacher, **options)
        self.loss = DiVELoss(decay)

    def prepare(
        self, strategy: Strategy, state: Mapping[str, Any], new: bool, loading: Mapping[str, Any]
    ) -> None:
        """Set the running mean to zero if the experience has a new teacher."""
        super().prepare(strategy, state, new, loading)
        if new and self.choice != "initial":
            self.loss.reset()

    def compare_reference(self, student: Tensor, teacher: Tensor, beside: Beside) -> Terms:
        """Return the term ``differences``; both inputs are [B, D]."""
        loss = self.loss
        if self.measuring:  # the unit is the rise by a drift alone, whatever the running mean is
            loss = DiVELoss(loss.decay)
        else:
            loss.follow(student, teacher)
        return {"differences": (self.weight, loss(student, teacher))}

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the base, and the running mean."""
        return {**super().state_dict(), "mean": self.loss.mean}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load ``state``, see :meth:`ReferencePlugin.load_state_dict`."""
        super().load_state_dict(state)
        self.loss.mean = state["mean"]
