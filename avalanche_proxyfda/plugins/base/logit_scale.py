"""The factor that turns cosines of images and texts into logits."""

from __future__ import annotations

from torch import nn

from avalanche_proxyfda.models.text_tower import find_text_tower

CLIP_SCALE = 100.0
"""The scale that CLIP learns, up to rounding (Radford et al., ICML 2021)."""


def logit_scale(model: nn.Module, given: float | None) -> float:
    """Return the scale of image-text logits.

    The scale of a fixed text head is not read, since a model may have several, or other heads.

    Args:
        model: unwrapped.
        given: the scale that the user named; None takes that of the model's text tower, and
            :data:`CLIP_SCALE` for a model without one.

    Example:
        >>> logit_scale(nn.Linear(2, 2), None), logit_scale(nn.Linear(2, 2), 10.0)
        (100.0, 10.0)
    """
    if given is not None:
        return given
    tower = find_text_tower(model)
    scale = None if tower is None else tower.scale
    return CLIP_SCALE if scale is None else float(scale)
