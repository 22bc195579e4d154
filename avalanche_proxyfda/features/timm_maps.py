"""Feature maps of timm's families whose ``feature_info`` does not name what their modules give."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Names = Callable[[Any], list[str]]

CHANNELS_LAST = frozenset({"VOLO", "VisionTransformerSAM"})
"""Families with maps [B, H, W, C] that do not say so themselves."""


def _coat(model: Any) -> list[str]:
    """Return the last block of each serial stage, then the branches of the last parallel block."""
    stages = [f"serial_blocks{k}" for k in (1, 2, 3, 4)]
    serial = [f"{stage}.{len(getattr(model, stage)) - 1}" for stage in stages]
    parallel = len(getattr(model, "parallel_blocks", None) or ())
    return serial + [f"parallel_blocks.{parallel - 1}[{k}]" for k in (1, 2, 3) if parallel]


def _crossvit(model: Any) -> list[str]:
    """Return both branches, of large and of small patches, at the end of each stage."""
    branches = range(len(model.patch_embed))
    return [f"blocks.{k}[{branch}]" for k in range(len(model.blocks)) for branch in branches]


def _hrnet(model: Any) -> list[str]:
    """Return stage 1, and every resolution at the end of stages 2, 3 and 4."""
    later = [f"stage{k}[{branch}]" for k in (2, 3, 4) for branch in range(k)]
    return ["layer1", *later]


def _entry(stages: str, entry: int) -> Names:
    """Return a function that names one entry of each stage's output."""
    return lambda model: [f"{stages}.{k}[{entry}]" for k in range(len(getattr(model, stages)))]


def _selecsls(model: Any) -> list[str]:
    """Return the first entry where ``feature_info`` names a block, which gives a list."""
    names = [stage["module"] for stage in model.feature_info]
    return [f"{name}[0]" if name.startswith("features.") else name for name in names]


def _tnt(model: Any) -> list[str]:
    """Return the patch tokens, entry 1, of the blocks at the four quarter points."""
    count = len(model.blocks)
    places = dict.fromkeys(-(-count * quarter // 4) for quarter in (1, 2, 3, 4))
    return [f"blocks.{place - 1}[1]" for place in places]


def _tresnet(model: Any) -> list[str]:
    return [f"body.layer{k}" for k in (1, 2, 3, 4)]


def _twins(model: Any) -> list[str]:
    """Return the last block of each stage; the stages are lists of blocks."""
    return [f"blocks.{k}.{len(stage) - 1}" for k, stage in enumerate(model.blocks)]


EXCEPTIONS: dict[str, Names] = {
    "CoaT": _coat,
    "CrossVit": _crossvit,
    "EfficientViM": _entry("stages", 0),
    "EfficientViMDistilled": _entry("stages", 0),
    "HighResolutionNet": _hrnet,
    "MultiScaleVit": _entry("stages", 0),
    "PoolingVisionTransformer": _entry("transformers", 0),
    "PoolingVisionTransformerDistilled": _entry("transformers", 0),
    "SelecSls": _selecsls,
    "TNT": _tnt,
    "TResNet": _tresnet,
    "Twins": _twins,
}
"""Functions that name the maps, by name of the model's class."""
