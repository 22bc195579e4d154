"""The factor that turns cosines of images and texts into logits."""

from __future__ import annotations

from torch import nn

from avalanche_proxyfda.models.seen_text_head import SeenTextHead
from avalanche_proxyfda.models.text_head import TextHead
from avalanche_proxyfda.models.text_tower import find_text_tower

CLIP_SCALE = 100.0
"""The scale that CLIP learns, up to rounding (Radford et al., ICML 2021)."""


def logit_scale(model: nn.Module, given: float | None) -> float:
    """Return the scale of image-text logits.

    Args:
        model: unwrapped.
        given: the scale that the user named; None takes that of the model's text tower, then
            that of its zero-shot heads, and :data:`CLIP_SCALE` for a model with neither.

    Raises:
        ValueError: if zero-shot heads have different scales, and none is given.

    Example:
        >>> import torch
        >>> from avalanche_proxyfda.models import TextHead
        >>> from avalanche_proxyfda.plugins.base.logit_scale import logit_scale
        >>> from torch import nn
        >>> logit_scale(nn.Linear(2, 2), None), logit_scale(nn.Linear(2, 2), 10.0)
        (100.0, 10.0)
        >>> logit_scale(TextHead(torch.eye(2), scale=32.0), None)
        32.0
    """
    if given is not None:
        return given
    tower = find_text_tower(model)
    if tower is not None:
        return CLIP_SCALE if tower.scale is None else float(tower.scale)
    heads = [part for part in model.modules() if isinstance(part, (TextHead, SeenTextHead))]
    scales = {float(head.scale) for head in heads}
    if len(scales) > 1:
        raise ValueError(
            f"the zero-shot heads have the scales {sorted(scales)}: give the plugin one, as scale=…"
        )
    return scales.pop() if scales else CLIP_SCALE
