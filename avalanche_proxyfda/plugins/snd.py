"""SND as an Avalanche plugin."""

from __future__ import annotations

from torch import Tensor
from typing_extensions import Unpack

from avalanche_proxyfda.losses.snd import Distance, Selection, SNDLoss
from avalanche_proxyfda.plugins.base.auto_weight import Weight
from avalanche_proxyfda.plugins.base.beside import Beside
from avalanche_proxyfda.plugins.base.embedding import EmbeddingOptions
from avalanche_proxyfda.plugins.base.lifecycle import Terms
from avalanche_proxyfda.plugins.base.reference_only import ReferenceOnlyPlugin


class SNDPlugin(ReferenceOnlyPlugin, supports_distributed=True):
    """Keeps reference features near the previous or the initial model (Yu et al., ECCV 2024).

    The teacher is the previous model, and the model as given is kept beside it. In the first
    experience both are one teacher, as always with ``teacher="initial"``, which leaves one
    teacher and a constant share. Metric: ``SND_reference_selected``.

    Args:
        weight: coefficient of the loss, or ``"auto"``; the authors have 1.
        previous_weight: weight of the distance to the previous model.
        initial_weight: weight of the distance to the initial model.
        threshold: distance of the two teachers at which both have a share of a half.
        sharpness: factor in the sigmoid of the share.
        distance: ``"squared"``, as in the authors' code, or ``"norm"``.
        selection: ``"image"`` weighs each image by its own share, ``"batch"`` all images by the
            mean share, as the authors' code does.
        options: see :class:`EmbeddingPlugin`.

    Example:
        >>> import torch
        >>> from avalanche.models import SimpleMLP
        >>> from avalanche.training import Naive
        >>> from avalanche_proxyfda import ReferenceData, SNDPlugin
        >>> model = SimpleMLP(num_classes=2, input_size=3 * 4 * 4, hidden_size=8)
        >>> data = ReferenceData(torch.rand(16, 3, 4, 4), batch=8)
        >>> plugin = SNDPlugin(weight=0.5, threshold=0.2, reference_data=data)
        >>> optimizer = torch.optim.AdamW(model.parameters())
        >>> strategy = Naive(model=model, optimizer=optimizer, plugins=[plugin], train_mb_size=64)
        >>> plugin.loss.threshold, plugin.choice  # the model as given is kept beside this teacher
        (0.2, 'previous')
    """

    also_initial = True

    def __init__(
        self,
        weight: Weight = 1.0,
        *,
        previous_weight: float = 9.0,
        initial_weight: float = 0.5,
        threshold: float = 0.2,
        sharpness: float = 6.0,
        distance: Distance = "squared",
        selection: Selection = "image",
        **options: Unpack[EmbeddingOptions],
    ) -> None:
        super().__init__(weight, **options)
        self.loss = SNDLoss(
            previous_weight, initial_weight, threshold, sharpness, distance, selection
        )

    def compare_reference(self, student: Tensor, teacher: Tensor, beside: Beside) -> Terms:
        """Return the term ``selected``; both inputs are [B, D]."""
        return {"selected": (self.weight, self.loss(student, teacher, beside.initial))}
