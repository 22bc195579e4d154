"""A zero-shot head over all classes of a stream, of which training sees those so far."""

from __future__ import annotations

from typing import Any

import torch
from avalanche.models import DynamicModule
from torch import Tensor
from torch.nn import functional as F

from avalanche_proxyfda.models.text_head import TextHead


class SeenTextHead(DynamicModule):  # type: ignore[misc]  # Avalanche is not typed
    """Gives logits of all classes in evaluation, and of the classes so far in training.

    Labels follow the order of learning, so the classes so far are the first ones. The class
    embeddings of later experiences take no part in a step: training an experience gives the same
    bits whatever experiences come later.

    Args:
        text: zero-shot head of all classes, in order of label, which may have other texts in
            training; its buffers are the state.

    Example:
        >>> import torch
        >>> from avalanche_proxyfda.models import SeenTextHead, TextHead
        >>> head = SeenTextHead(TextHead(torch.eye(3)))
        >>> head.eval()(torch.ones(1, 3)).shape, head.train()(torch.ones(1, 3)).shape
        (torch.Size([1, 3]), torch.Size([1, 0]))
    """

    weight: Tensor
    scale: Tensor
    train_weight: Tensor | None
    seen: Tensor

    def __init__(self, text: TextHead) -> None:
        super().__init__()
        self.register_buffer("weight", text.weight)
        self.register_buffer("scale", text.scale)
        self.register_buffer("train_weight", text.train_weight)
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))
        self._count = 0  # seen, on the host
        self.register_load_state_dict_post_hook(_read_count)

    @property
    def trains_on_other_texts(self) -> bool:
        """True if the logits of training come from other texts than those of evaluation."""
        return self.train_weight is not None

    def adaptation(self, experience: Any) -> None:
        """Count the classes of a training experience among those so far.

        Raises:
            ValueError: if a label is beyond the classes of the head.
        """
        if not self.training:
            return
        highest = max(experience.classes_in_this_experience)
        if highest >= len(self.weight):
            raise ValueError(
                f"the experience has label {highest}, the head has {len(self.weight)} classes: "
                "give texts of the classes of all experiences"
            )
        self._count = max(int(self.seen), highest + 1)
        self.seen.fill_(self._count)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [B, C] of embeddings [B, D]; in training C is the number so far."""
        weight = self.weight
        if self.training:
            weight = (weight if self.train_weight is None else self.train_weight)[: self._count]
        return self.scale.to(x.dtype) * F.normalize(x, dim=1) @ weight.to(x.dtype).T


def _read_count(head: SeenTextHead, _: Any) -> None:
    head._count = int(head.seen)
