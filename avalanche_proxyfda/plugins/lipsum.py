"""Lipsum-FT as an Avalanche plugin."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from typing_extensions import Unpack

from avalanche_proxyfda._checks import check_choice
from avalanche_proxyfda._protocols import Strategy
from avalanche_proxyfda.data.reference import ReferenceData
from avalanche_proxyfda.features.source import unwrap
from avalanche_proxyfda.losses.lipsum import LipsumFTLoss
from avalanche_proxyfda.plugins.base.auto_weight import Weight
from avalanche_proxyfda.plugins.base.embedding import EmbeddingOptions, EmbeddingPlugin
from avalanche_proxyfda.plugins.base.lifecycle import TeacherChoice, Terms
from avalanche_proxyfda.plugins.base.logit_scale import CLIP_SCALE, logit_scale

Images = Literal["training", "reference", "both"]


class LipsumFTPlugin(EmbeddingPlugin, supports_distributed=True):
    """Keeps the logits of images with random texts (Nam et al., ICLR 2024).

    The texts are those of ``reference_data``: token ids of random strings, which the teacher's
    text tower encodes once, or text features. Metric: ``LipsumFT_energies``, and
    ``LipsumFT_reference_energies`` on reference images.

    Args:
        weight: coefficient of the loss, or ``"auto"``; the authors' code has 1.
        images: ``"training"`` compares the training batch, as the authors' code does, and runs
            no forward of reference images, which are not read. ``"reference"`` compares the
            reference images alone, ``"both"`` compares both.
        scale: factor of the cosines. None takes that of the model's text tower or zero-shot
            heads, and 100 for a model with neither.
        teacher: ``"initial"``, the model as given, as in the authors' code, ``"previous"``, or
            ``"averaged"`` for reference texts that are features.
        options: see :class:`EmbeddingPlugin`. ``reference_data`` is needed, for its texts.

    Example:
        >>> import torch
        >>> from avalanche.models import SimpleMLP
        >>> from avalanche.training import Naive
        >>> from avalanche_proxyfda import LipsumFTPlugin, ReferenceData
        >>> model = SimpleMLP(num_classes=2, input_size=3 * 4 * 4, hidden_size=8)
        >>> data = ReferenceData(torch.rand(16, 3, 4, 4), texts=torch.rand(5, 8), batch=8)
        >>> plugin = LipsumFTPlugin(weight=0.5, images="both", reference_data=data)
        >>> optimizer = torch.optim.AdamW(model.parameters())
        >>> strategy = Naive(model=model, optimizer=optimizer, plugins=[plugin], train_mb_size=64)
        >>> plugin.images, plugin.loss.scale
        ('both', 100.0)
    """

    reads_texts = True
    reads_student_texts = False
    least_samples = 1

    def __init__(  # type: ignore[misc]  # the class has another default of teacher
        self,
        weight: Weight = 1.0,
        *,
        images: Images = "training",
        scale: float | None = None,
        teacher: TeacherChoice = "initial",
        **options: Unpack[EmbeddingOptions],
    ) -> None:
        super().__init__(weight, teacher=teacher, **options)
        check_choice("images", images, get_args(Images))
        if images == "training" and self.reference_weight is not None:
            raise ValueError(
                f"reference_weight={self.reference_weight} has no effect with images='training', "
                "which reads no reference images: leave it out, or take images='both'"
            )
        self.images: Images = images
        self.reads_training_batch = images != "reference"
        self.scale = scale
        self.loss = LipsumFTLoss(CLIP_SCALE if scale is None else scale)

    def _check_needs(self, data: ReferenceData | None, weight: Weight | None) -> None:
        """Raise ValueError without reference data, which hold the texts."""
        super()._check_needs(data, weight)
        if data is None:
            raise ValueError(
                "LipsumFTPlugin compares with random texts: pass "
                "reference_data=ReferenceData(images, texts=…)"
            )

    def prepare(
        self, strategy: Strategy, state: Mapping[str, Any], new: bool, loading: Mapping[str, Any]
    ) -> None:
        """Read the model's logit scale."""
        super().prepare(strategy, state, new, loading)
        self.loss.scale = logit_scale(unwrap(strategy.model), self.scale)

    def add_reference(self, strategy: Strategy, autocast: torch.dtype | None) -> None:
        """Add the term on reference images, if ``images`` asks for them."""
        if self.images != "training":
            super().add_reference(strategy, autocast)

    def compare(self, student: Tensor, teacher: Tensor) -> Terms:
        """Return the term ``energies``; both inputs are [B, D]."""
        texts = self._answers["teacher"].texts
        assert texts is not None
        return {"energies": (self.weight, self.loss(student, teacher, texts))}
