"""Trainable linear heads that start as zero-shot heads."""

from __future__ import annotations

from typing import Any

import torch
from avalanche.models import IncrementalClassifier
from torch import Tensor, nn
from torch.nn import functional as F

from avalanche_proxyfda.models.text_head import TextHead


class UnitLinear(nn.Linear):
    """A linear layer on L2-normalised rows.

    Example:
        >>> import torch
        >>> from avalanche_proxyfda.models import UnitLinear
        >>> layer = UnitLinear(2, 1, bias=False)
        >>> torch.equal(layer(torch.tensor([[3.0, 4.0]])), layer(torch.tensor([[6.0, 8.0]])))
        True
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [B, C] of embeddings [B, D]."""
        return super().forward(F.normalize(x, dim=-1))


@torch.no_grad()
def start_from_texts(layer: nn.Linear, text: TextHead, first: int = 0) -> None:
    """Set rows of a linear layer to the class embeddings times the scale, and their bias to 0.

    On unit rows the layer then gives the logits of the zero-shot head, and can be trained from
    there, as in WiSE-FT's code (Wortsman et al., CVPR 2022).

    Args:
        layer: layer with weight [C, D]; a bias is optional.
        text: zero-shot head with C classes or more.
        first: first row to set; earlier rows stay.

    Raises:
        ValueError: if the layer has more classes than the zero-shot head, or another width.

    Example:
        >>> import torch
        >>> from avalanche_proxyfda.models import TextHead, UnitLinear, start_from_texts
        >>> text, layer = TextHead(torch.tensor([[3.0, 4.0], [1.0, 0.0]])), UnitLinear(2, 2)
        >>> start_from_texts(layer, text)
        >>> torch.allclose(layer(torch.ones(1, 2)), text(torch.ones(1, 2)))
        True
    """
    classes, width = text.weight.shape
    if layer.out_features > classes or layer.in_features != width:
        raise ValueError(
            f"layer has weight {tuple(layer.weight.shape)}, the zero-shot head has "
            f"{tuple(text.weight.shape)}: give texts of all {layer.out_features} classes, with "
            f"embeddings of width {layer.in_features}"
        )
    rows = (text.scale * text.weight)[first : layer.out_features]
    layer.weight[first:] = rows.to(layer.weight)
    if layer.bias is not None:
        layer.bias[first:] = 0


class GrowingTextHead(IncrementalClassifier):  # type: ignore[misc]  # Avalanche is not typed
    """Avalanche's growing head on unit embeddings; the row of a new class starts as its text.

    Args:
        text: zero-shot head of all classes that will come, in order of label.

    Raises:
        ValueError: in ``adaptation``, if a label is beyond the classes of ``text``.

    Example:
        >>> import torch
        >>> from avalanche_proxyfda.models import GrowingTextHead, TextHead
        >>> text = TextHead(torch.eye(5), scale=10.0)  # five classes will come
        >>> head = GrowingTextHead(text)
        >>> head.classifier.out_features, head.classifier.weight[0].tolist()
        (2, [10.0, 0.0, 0.0, 0.0, 0.0])
    """

    def __init__(self, text: TextHead) -> None:
        classes, width = text.weight.shape
        super().__init__(width, min(2, classes))
        # a tuple, so that the texts are no part of the state
        self._text = (text,)
        start_from_texts(self.classifier, text)

    @torch.no_grad()
    def adaptation(self, experience: Any) -> None:
        """Grow for the classes of ``experience``."""
        known = self.classifier.out_features
        super().adaptation(experience)
        if self.classifier.out_features > known:
            start_from_texts(self.classifier, self._text[0], known)

    def forward(self, x: Tensor, **kwargs: Any) -> Tensor:
        """Return logits [B, C] of embeddings [B, D]; C is the number of classes so far."""
        logits: Tensor = super().forward(F.normalize(x, dim=-1), **kwargs)
        return logits
