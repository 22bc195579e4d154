"""Names the feature maps along a model's depth, for known families of models."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn

from avalanche_proxyfda.features.source import FeatureSource, unwrap
from avalanche_proxyfda.features.timm_maps import CHANNELS_LAST, EXCEPTIONS


def _quarters(blocks: str, count: int) -> list[str]:
    """Return the names of the blocks at the four quarter points, without duplicates."""
    places = [-(-count * quarter // 4) for quarter in (1, 2, 3, 4)]
    return [f"{blocks}.{place - 1}" for place in dict.fromkeys(places)]


def _all(model: nn.Module, *names: str) -> bool:
    return all(isinstance(getattr(model, name, None), nn.Module) for name in names)


def _open_clip(model: Any) -> list[str] | None:
    if not type(model).__module__.startswith("open_clip."):
        return None
    if _all(model, "conv1", "ln_pre", "transformer"):
        return ["ln_pre", *_quarters("transformer.resblocks", len(model.transformer.resblocks))]
    if _all(model, "layer1", "layer2", "layer3", "layer4"):
        return ["layer1", "layer2", "layer3", "layer4"]
    return None


def _timm(model: Any) -> list[str] | None:
    if not type(model).__module__.startswith("timm."):
        return None
    names = _timm_names(model)
    last = getattr(model, "output_fmt", "") == "NHWC" or type(model).__name__ in CHANNELS_LAST
    return [f"{name}:channels_last" for name in names] if names and last else names


def _timm_names(model: Any) -> list[str] | None:
    own = EXCEPTIONS.get(type(model).__name__)
    if own is not None:
        return own(model)
    if _all(model, "patch_embed", "norm_pre", "blocks"):
        return ["norm_pre", *_quarters("blocks", len(model.blocks))]
    info = getattr(model, "feature_info", None)
    stages = [stage.get("module", "") for stage in info] if isinstance(info, list) else []
    if _all(model, "blocks") and stages == [f"blocks.{k}" for k in range(len(model.blocks))]:
        return ["blocks.0:input", *_quarters("blocks", len(stages))]  # BEiT, CaiT, mixers
    known = dict(model.named_modules())
    return [name for name in stages if name and name in known] or None


def _torchvision(model: Any) -> list[str] | None:
    if not type(model).__module__.startswith("torchvision.models."):
        return None
    if _all(model, "layer1", "layer2", "layer3", "layer4"):
        return ["layer1", "layer2", "layer3", "layer4"]
    if type(model).__name__ == "VisionTransformer":
        layers = model.encoder.layers
        names = [f"encoder.layers.{name}" for name, _ in layers.named_children()]
        picked = _quarters("", len(names))
        return ["encoder.layers:input", *(names[int(p.removeprefix("."))] for p in picked)]
    return None


def _candidates(model: nn.Module) -> Iterator[tuple[str, list[str]]]:
    for name, module in model.named_modules():
        for family in (_open_clip, _timm, _torchvision):
            places = family(module)
            if places:
                yield name, places


def find_feature_maps(model: nn.Module) -> tuple[FeatureSource, ...]:
    """Return LDIFS's taps (Mukhoti et al., TMLR 2024) for known families of models.

    A transformer has five taps: the input of the first block (after open_clip's ``ln_pre``),
    and the outputs of the blocks at the four quarter points, which are blocks 3, 6, 9 and 12
    of twelve. A network of stages has one tap at the end of each stage; where a stage ends in
    several branches, as in HRNet and CrossViT, each branch is a tap. The known families
    are open_clip's ViTs and ResNets, timm's models (by their ``feature_info``), and
    torchvision's ResNets and ViTs. The family's model may be a submodule of ``model``.

    Raises:
        ValueError: when ``model`` holds none of these; the user must name the taps.

    Example:
        >>> import torch
        >>> from torchvision.models import resnet18
        >>> from avalanche_proxyfda import find_feature_maps
        >>> with torch.device("meta"):  # the names of modules need no weights
        ...     model = resnet18()
        >>> [str(tap) for tap in find_feature_maps(model)]
        ['layer1', 'layer2', 'layer3', 'layer4']
    """
    model = unwrap(model)
    for prefix, names in _candidates(model):
        sources = [FeatureSource.parse(f"{prefix}.{name}" if prefix else name) for name in names]
        return tuple(sources)
    children = ", ".join(n for n, _ in model.named_children()) or "none"
    raise ValueError(
        f"no preset knows the feature maps of {type(model).__name__}: pass taps=('NAME', ...), "
        "modules that give tokens [B, T, D], maps [B, C, H, W] or vectors [B, D]; its children "
        f"are: {children}"
    )
