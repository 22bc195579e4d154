"""Builds the towers of a description, without their weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from avalanche_proxyfda.models import TextTower, load_backbone

_CLIP = {
    "vision_cfg": {"image_size", "patch_size", "layers", "width", "head_width", "mlp_ratio"},
    "text_cfg": {"context_length", "vocab_size", "width", "heads", "layers"},
}
"""Settings of a CLIP that reads no file and no network."""


def build_towers(
    recipe: Mapping[str, Any], with_text: bool = False
) -> tuple[nn.Module, TextTower | None]:
    """Build the image tower with random weights, in eval mode, and the text tower if it is asked.

    Args:
        recipe: ``name``, ``image_size`` and ``options`` of
            :func:`~avalanche_proxyfda.models.load_backbone`; or ``clip``, the arguments of
            open_clip's ``CLIP``.
        with_text: True builds the text tower too.

    Raises:
        ValueError: for another recipe, one that the library refuses, or a missing text tower.
        ImportError, ConnectionError: see ``load_backbone``.
    """
    given = dict(recipe)
    if "clip" in given:
        clip = _clip(given["clip"])
        return clip.visual, TextTower(clip).eval() if with_text else None
    try:
        backbone = load_backbone(
            given["name"], "random", given["image_size"], options=given["options"]
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"backbone={given} cannot be built: {error!r}") from error
    if not with_text:
        return backbone.tower, None
    if backbone.clip is None:
        raise ValueError(
            f"backbone={given} has no text tower, and the weights hold one: name the backbone "
            "that the weights were saved with"
        )
    return backbone.tower, TextTower(backbone.clip).eval()


def _clip(config: Any) -> Any:
    from open_clip.model import CLIP

    try:
        for part, known in _CLIP.items():
            unknown = set(config[part]) - known
            if unknown:
                raise ValueError(f"{part} has {sorted(unknown)}")
        if set(config) != {"embed_dim", *_CLIP}:
            raise ValueError(f"clip has {sorted(config)}")
        return CLIP(**config).eval()
    except (KeyError, TypeError, ValueError, ArithmeticError, AssertionError) as error:
        raise ValueError(f"backbone: clip={config} cannot be built: {error!r}") from error
