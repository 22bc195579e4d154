"""One vector a sample from tokens or feature maps."""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor

from avalanche_proxyfda._checks import named_kind

Pooling = Literal["auto", "first", "mean"]


def pool_features(output: Any, name: str, pooling: Pooling = "auto") -> Tensor:
    """Reduce a feature module's output to one vector a sample.

    Args:
        output: embeddings [B, D], tokens [B, T, D], a feature map [B, C, H, W], or a tuple or
            list whose first entry is one of these.
        name: name of the module, for the error message.
        pooling: ``"auto"`` and ``"mean"`` average over tokens, or over the map's positions;
            ``"first"`` takes the first token.

    Returns:
        [B, D] for embeddings and tokens, [B, C] for a map.

    Raises:
        ValueError: when ``output`` has another type or shape, or ``pooling`` is ``"first"``
            for a map.

    Example:
        >>> import torch
        >>> from avalanche_proxyfda.features.pooling import pool_features
        >>> pool_features(torch.zeros(2, 5, 3), "visual").shape
        torch.Size([2, 3])
    """
    value = output[0] if isinstance(output, (tuple, list)) and len(output) else output
    if isinstance(value, Tensor) and value.is_floating_point():
        if value.ndim == 2:
            return value
        if value.ndim == 3:
            return value[:, 0] if pooling == "first" else value.mean(dim=1)
        if value.ndim == 4 and pooling != "first":
            return value.flatten(2).mean(dim=2)
        kind = f"a tensor of shape {tuple(value.shape)}"
    else:
        kind = named_kind(value)
    raise ValueError(
        f"feature_module={name!r} gives {kind}, which is neither [B, D], tokens [B, T, D] nor "
        f"a map [B, C, H, W] that pooling={pooling!r} can turn into one vector a sample; name "
        "another module"
    )
