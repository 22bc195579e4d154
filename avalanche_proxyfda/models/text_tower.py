"""The text tower of a CLIP model, as a module that a run can train."""

from __future__ import annotations

import copy

from torch import Tensor, nn

from avalanche_proxyfda._checks import named_kind


class TextTower(nn.Module):
    """Maps token ids to text embeddings with the text side of an open_clip model.

    The tower copies the text side: token embedding, transformer and projection. It does not hold
    the image side. The logit scale is copied too, and is never trained, as in ZSCL (Zheng et
    al., ICCV 2023).

    Args:
        clip: an open_clip model; it is not changed.

    Raises:
        TypeError: if ``clip`` has no ``encode_text``.

    Example:
        >>> import torch
        >>> from avalanche_proxyfda.models import TextTower
        >>> from open_clip.model import CLIP
        >>> image = dict(image_size=8, patch_size=4, layers=1, width=8, head_width=8)
        >>> text = dict(context_length=6, vocab_size=10, width=8, heads=1, layers=1)
        >>> tower = TextTower(CLIP(4, image, text))
        >>> tower(torch.tensor([[1, 2, 9, 0, 0, 0]])).shape
        torch.Size([1, 4])
    """

    def __init__(self, clip: nn.Module) -> None:
        super().__init__()
        if not hasattr(clip, "encode_text"):
            raise TypeError(
                f"clip is {named_kind(clip)} without encode_text: pass the clip of an "
                "open_clip backbone"
            )
        visual = getattr(clip, "visual", None)
        self.clip = copy.deepcopy(clip, {id(visual): None})
        for name in ("logit_scale", "logit_bias"):
            parameter = getattr(self.clip, name, None)
            if isinstance(parameter, nn.Parameter):
                parameter.requires_grad_(False)

    @property
    def scale(self) -> Tensor | None:
        """The factor of cosines in logits, a scalar; None for a model that has learnt none."""
        logarithm: Tensor | None = getattr(self.clip, "logit_scale", None)
        return None if logarithm is None else logarithm.detach().exp()

    def forward(self, tokens: Tensor) -> Tensor:
        """Return text embeddings [M, D], not normalised.

        Args:
            tokens: ids of M texts, [M, L], as the model's tokenizer gives them.
        """
        features: Tensor = self.clip.encode_text(tokens)  # type: ignore[operator]
        return features


def find_text_tower(model: nn.Module) -> TextTower | None:
    """Return the text tower within ``model``; None if the model has none.

    Args:
        model: a student, wrapped or not, or a teacher's copy of one.

    Raises:
        ValueError: if the model holds several text towers.

    Example:
        >>> import torch
        >>> from open_clip.model import CLIP
        >>> from avalanche_proxyfda.models import TextTower, find_text_tower
        >>> image = dict(image_size=8, patch_size=4, layers=1, width=8, head_width=8)
        >>> text = dict(context_length=6, vocab_size=10, width=8, heads=1, layers=1)
        >>> tower = TextTower(CLIP(4, image, text))
        >>> model = torch.nn.ModuleDict({"text": tower, "head": torch.nn.Linear(4, 2)})
        >>> find_text_tower(model) is tower, find_text_tower(model["head"])
        (True, None)
    """
    towers = [module for module in model.modules() if isinstance(module, TextTower)]
    if len(towers) > 1:
        raise ValueError(f"the model holds {len(towers)} text towers; one is expected")
    return towers[0] if towers else None
