"""Loads pre-trained image towers of open_clip and timm, with their preprocessing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from avalanche_proxyfda._files import expanded
from avalanche_proxyfda.models.backbone import RANDOM, Backbone
from avalanche_proxyfda.models.from_open_clip import open_clip_backbone
from avalanche_proxyfda.models.from_timm import timm_backbone
from avalanche_proxyfda.models.names import check_backbone_name
from avalanche_proxyfda.models.packaged import PREFIX, packaged

_WORDS = ("off", "on", "no", "yes")
_OWN = {
    "precision": "the tower has float32; let the strategy's autocast choose (train.precision)",
    "device": "the tower is built on the CPU; move the model afterwards (where.device)",
    "num_classes": "the tower has no classifier; the stream decides the head",
    "features_only": "the tower gives one vector an image; find_feature_maps reads its maps",
}
"""Options of the libraries that this module decides, with the reasons."""


def load_backbone(
    name: str,
    weights: Path | str | None = None,
    image_size: int | None = None,
    mean: tuple[float, float, float] | None = None,
    std: tuple[float, float, float] | None = None,
    options: Mapping[str, Any] | None = None,
) -> Backbone:
    """Load a pre-trained image tower by name.

    Args:
        name: ``"open_clip:ARCHITECTURE/TAG"`` (``open_clip:ViT-B-16/openai``) or
            ``"timm:MODEL"`` (``timm:mobilenetv2_100``). TAG is optional with ``weights``.
            Preprocessing and activation are those of TAG, whatever file the weights come from,
            and without TAG those on which all tags of ARCHITECTURE agree.
        weights: a local file, ``.safetensors`` or a state dict that torch reads with
            ``weights_only=True``; ``"random"`` keeps the random initialisation; None lets the
            library download the pre-trained weights. A file is loaded as the library loads its
            hub's: a classifier's head is left out, and position embeddings are resized.
            ``"package:NAME"`` reads weights that a distribution of the package index carries:
            ``"package:efficientnet-lite0"`` for ``timm:tf_efficientnet_lite0``, with the mean and
            the standard deviation of its training where ``mean`` and ``std`` are None.
        image_size: side of the images in pixels; None takes the model's.
        mean: mean of each image channel; None takes the model's.
        std: standard deviation of each image channel; None takes the model's.
        options: more arguments of the library's ``create_model``. Arguments that make the
            library read weights are refused.

    Raises:
        ValueError: for an unknown architecture, tag or model (the message lists similar names),
            a file without TAG where the tags of ARCHITECTURE disagree, weights that do not fit
            or are not safe to read, or options that are unknown, read weights, or are decided
            here (``precision``).
        FileNotFoundError: when the file ``weights`` does not exist.
        ImportError: when timm, or the distribution of packaged weights, is needed and not
            installed.
        ConnectionError: when the download of the weights fails.

    Example:
        >>> import torch
        >>> from avalanche_proxyfda.models import load_backbone
        >>> backbone = load_backbone("timm:mobilenetv2_035", weights="random", image_size=32)
        >>> backbone.dim, backbone.preprocessing["mean"]
        (1280, (0.485, 0.456, 0.406))
        >>> backbone.tower(torch.zeros(1, 3, 32, 32)).shape
        torch.Size([1, 1280])
    """
    check_backbone_name(name)
    family, _, model = name.partition(":")
    if isinstance(weights, str) and weights.startswith(PREFIX):
        entry, _ = packaged(weights, name)
        mean, std = mean or entry.mean, std or entry.std
    elif weights is not None and weights != RANDOM:
        weights = expanded(weights)
        if not weights.is_file():
            raise FileNotFoundError(
                f"weights={str(weights)!r} is not a file: check the path, which is relative to "
                f"{Path.cwd()}"
            )
    _check_options(options or {})
    build = open_clip_backbone if family == "open_clip" else timm_backbone
    return build(name, model, weights, image_size, (mean, std), dict(options or {}))


def _check_options(options: Mapping[str, Any]) -> None:
    """Refuse options that make the library read files without our checks, or are decided here."""
    for key, value in options.items():
        if key.startswith(("pretrained", "checkpoint")) or "weights" in key or key == "jit":
            raise ValueError(
                f"options: {key!r} decides which weights the library reads; pass weights=FILE, "
                "or a name with pre-trained weights"
            )
        if key in _OWN:
            raise ValueError(f"options: {key!r} cannot be set: {_OWN[key]}")
        # texts in YAML 1.2, which a library would take for true
        if isinstance(value, str) and value in _WORDS:
            raise ValueError(f"options: {key}={value!r}: give true or false")
