"""Builds the tower of a description, without its weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from avalanche_proxyfda.models import load_backbone

_CLIP = {
    "vision_cfg": {"image_size", "patch_size", "layers", "width", "head_width", "mlp_ratio"},
    "text_cfg": {"context_length", "vocab_size", "width", "heads", "layers"},
}
"""Settings of a CLIP that reads no file and no network."""


def build_tower(recipe: Mapping[str, Any]) -> nn.Module:
    """Build a tower with random weights, in eval mode.

    Args:
        recipe: ``name``, ``image_size`` and ``options`` of
            :func:`~avalanche_proxyfda.models.load_backbone`; or ``clip``, the arguments of
            open_clip's ``CLIP``.

    Raises:
        ValueError: for another recipe, or one that the library refuses.
        ImportError, ConnectionError: see ``load_backbone``.
    """
    given = dict(recipe)
    if "clip" in given:
        return _clip(given["clip"])
    try:
        backbone = load_backbone(
            given["name"], "random", given["image_size"], options=given["options"]
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"backbone={given} cannot be built: {error!r}") from error
    return backbone.tower


def _clip(config: Any) -> nn.Module:
    from open_clip.model import CLIP

    try:
        for part, known in _CLIP.items():
            unknown = set(config[part]) - known
            if unknown:
                raise ValueError(f"{part} has {sorted(unknown)}")
        if set(config) != {"embed_dim", *_CLIP}:
            raise ValueError(f"clip has {sorted(config)}")
        tower: nn.Module = CLIP(**config).visual
        return tower.eval()
    except (KeyError, TypeError, ValueError, ArithmeticError, AssertionError) as error:
        raise ValueError(f"backbone: clip={config} cannot be built: {error!r}") from error
