"""Depths of a tower's parameters, counted in blocks from the top."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from avalanche_proxyfda.models.text_tower import TextTower

_ABOVE = {
    "attn_pool",
    "fc_norm",
    "head",
    "head_dist",
    "ln_final",
    "ln_post",
    "logit_bias",
    "logit_scale",
    "norm",
    "proj",
    "text_projection",
}
"""Names of the parts after the blocks, in open_clip and timm."""
_TIMM = {"VisionTransformer", "Eva", "Beit"}


def layer_depths(tower: nn.Module) -> dict[str, int]:
    """Return the depth of each parameter of a transformer, by name.

    With n blocks, the parts after the blocks (last norm, projection) have depth 0, the last block
    has depth 1, the first block n, and the parts before the blocks (embeddings) n + 1. Layer-wise
    decay multiplies the learning rate of depth d by ``decay ** d``, as BEiT does (Bao et al.,
    ICLR 2022).

    Args:
        tower: a vision transformer of open_clip or timm, or a :class:`TextTower` with open_clip's
            text transformer.

    Raises:
        ValueError: for another tower, whose blocks are unknown; names its class.

    Example:
        >>> from avalanche_proxyfda.models import layer_depths
        >>> from open_clip.model import CLIP
        >>> image = dict(image_size=8, patch_size=4, layers=2, width=8, head_width=8)
        >>> text = dict(context_length=6, vocab_size=10, width=8, heads=1, layers=1)
        >>> depths = layer_depths(CLIP(4, image, text).visual)
        >>> depths["proj"], depths["transformer.resblocks.1.ln_1.bias"], depths["conv1.weight"]
        (0, 1, 3)
    """
    place = next(_places(tower), None)
    if place is None:
        inner = tower.clip if isinstance(tower, TextTower) else tower
        inner = getattr(inner, "trunk", getattr(inner, "text", inner))
        raise ValueError(
            f"the blocks of {type(inner).__name__} are unknown: layer-wise decay needs a vision or "
            "text transformer of open_clip or timm; use one rate for the tower"
        )
    root, blocks = place
    count = len(list(tower.get_submodule(root + blocks).children()))
    depths = {}
    for name, _ in tower.named_parameters():
        inside = name.removeprefix(root)
        if name.startswith(f"{root}{blocks}."):
            depths[name] = count - int(inside.removeprefix(f"{blocks}.").partition(".")[0])
        else:
            above = not name.startswith(root) or inside.partition(".")[0] in _ABOVE
            depths[name] = 0 if above else count + 1
    return depths


def _places(tower: nn.Module) -> Iterator[tuple[str, str]]:
    """Yield the name of a transformer, with a dot at its end, and the name of its blocks."""
    for name, module in tower.named_modules():
        root = f"{name}." if name else ""
        kinds = {kind.__name__ for kind in type(module).__mro__}
        home = type(module).__module__
        if home.startswith("timm.") and kinds & _TIMM:
            yield root, "blocks"
        elif home.startswith("open_clip.") and kinds & {"CLIP", "TextTransformer"}:
            if hasattr(module, "transformer"):
                yield root, "transformer.resblocks"
        elif home.startswith("open_clip.") and "VisionTransformer" in kinds:
            yield root, "transformer.resblocks"
