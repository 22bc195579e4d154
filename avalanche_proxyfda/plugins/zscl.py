"""ZSCL's term on reference data as an Avalanche plugin."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from typing_extensions import Unpack

from avalanche_proxyfda._checks import check_flag
from avalanche_proxyfda._protocols import Strategy
from avalanche_proxyfda.features.source import unwrap
from avalanche_proxyfda.losses.zscl import ZSCLLoss
from avalanche_proxyfda.plugins.base.auto_weight import Weight
from avalanche_proxyfda.plugins.base.beside import Beside
from avalanche_proxyfda.plugins.base.embedding import EmbeddingOptions
from avalanche_proxyfda.plugins.base.lifecycle import TeacherChoice, Terms
from avalanche_proxyfda.plugins.base.logit_scale import CLIP_SCALE, logit_scale
from avalanche_proxyfda.plugins.base.reference_only import ReferenceOnlyPlugin


class ZSCLPlugin(ReferenceOnlyPlugin, supports_distributed=True):
    """Keeps similarities of reference images and reference texts (Zheng et al., ICCV 2023).

    The plugin holds the paper's distillation term alone. The paper's weight ensembling and its
    L2 distance to the previous weights are plugins of their own: docs/methods/zscl.md. Metric:
    ``ZSCL_reference_similarities``.

    Args:
        weight: coefficient of the loss, or ``"auto"``; the authors use 1.
        temperature: T, which divides the logits; above 0.
        scale: factor of the cosines. None takes that of the model's text tower or zero-shot
            heads, and 100 for a model with neither.
        own_texts: True compares the student's own text features, so that the term reaches a
            text tower that trains. With False, as in the authors' code, both sides have the
            teacher's text features.
        teacher: ``"initial"``, the model as given, as in the authors' code, ``"previous"``, or
            ``"averaged"`` for reference texts that are features.
        options: see :class:`EmbeddingPlugin`. The texts are those of ``reference_data``.

    Example:
        >>> import torch
        >>> from avalanche.models import SimpleMLP
        >>> from avalanche.training import Naive
        >>> from avalanche_proxyfda import ReferenceData, ZSCLPlugin
        >>> model = SimpleMLP(num_classes=2, input_size=3 * 4 * 4, hidden_size=8)
        >>> data = ReferenceData(torch.rand(16, 3, 4, 4), texts=torch.rand(5, 8), batch=8)
        >>> plugin = ZSCLPlugin(weight=0.5, temperature=2.0, reference_data=data)
        >>> optimizer = torch.optim.AdamW(model.parameters())
        >>> strategy = Naive(model=model, optimizer=optimizer, plugins=[plugin], train_mb_size=64)
        >>> plugin.loss.temperature, plugin.loss.scale
        (2.0, 100.0)
    """

    reads_texts = True

    def __init__(  # type: ignore[misc]  # the class has another default of teacher
        self,
        weight: Weight = 1.0,
        *,
        temperature: float = 2.0,
        scale: float | None = None,
        own_texts: bool = False,
        teacher: TeacherChoice = "initial",
        **options: Unpack[EmbeddingOptions],
    ) -> None:
        super().__init__(weight, teacher=teacher, **options)
        self.scale = scale
        self.loss = ZSCLLoss(CLIP_SCALE if scale is None else scale, temperature)
        self.own_texts = check_flag("own_texts", own_texts)
        self.reads_student_texts = self.own_texts

    def prepare(
        self, strategy: Strategy, state: Mapping[str, Any], new: bool, loading: Mapping[str, Any]
    ) -> None:
        """Read the model's logit scale; refuse ``own_texts`` for fixed text features."""
        assert self.reference_data is not None
        if self.own_texts and self.reference_data.tokens is None:
            raise ValueError(
                "own_texts=True compares texts that the student's text tower encodes, and the "
                "reference data holds text features, which stay as they are: give token ids, int "
                "[M, L], or own_texts=False"
            )
        super().prepare(strategy, state, new, loading)
        self.loss.scale = logit_scale(unwrap(strategy.model), self.scale)

    def compare_reference(self, student: Tensor, teacher: Tensor, beside: Beside) -> Terms:
        """Return the term ``similarities``; both inputs are [B, D]."""
        assert beside.teacher_texts is not None
        own = beside.student_texts if self.own_texts else None
        loss = self.loss(student, teacher, beside.teacher_texts, own)
        return {"similarities": (self.weight, loss)}
