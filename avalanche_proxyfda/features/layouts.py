"""Maps with the channels on the last axis are noticed before they are compared."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from avalanche_proxyfda.features.source import FeatureSource


def widths_of(model: nn.Module, name: str) -> frozenset[int]:
    """Return the numbers of channels that timm's ``feature_info`` gives for a model's maps.

    Args:
        model: model to search.
        name: name of a module; the innermost timm model around the module counts.

    Returns:
        The numbers of channels; empty outside a timm model.
    """
    widths: frozenset[int] = frozenset()
    path = name.split(".")
    for depth in range(len(path)):
        around = model.get_submodule(".".join(path[:depth]))
        stages = getattr(around, "feature_info", None)
        if type(around).__module__.startswith("timm.") and isinstance(stages, list):
            widths = frozenset(int(stage["num_chs"]) for stage in stages if "num_chs" in stage)
    return widths


def check_layout(source: FeatureSource, value: Any, widths: frozenset[int]) -> None:
    """Refuse a map [B, H, W, C] where [B, C, H, W] is expected.

    The channels are on the last axis if the last axis alone has one of the model's known
    widths, or if the two axes before it are equal and it differs.

    Args:
        source: the place, without a layout.
        value: its value; anything without four axes passes.
        widths: known numbers of channels, see :func:`widths_of`.

    Raises:
        ValueError: when the channels are on the last axis; names the two remedies.
    """
    value = value[0] if isinstance(value, (tuple, list)) and value else value
    if not isinstance(value, Tensor) or value.ndim != 4:
        return
    _, first, middle, last = value.shape
    known = last in widths and first not in widths
    if known or (first == middle != last and first not in widths):
        raise ValueError(
            f"{str(source)!r} gives a map of shape {tuple(value.shape)}, whose channels seem to "
            f"be on the last axis: write '{source}:channels_last', or '{source}:channels_first' "
            "if axis 1 holds the channels"
        )
