"""The pre-trained tower of a configuration, and how it is shown images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torchvision.transforms import v2

from avalanche_proxyfda.models import Backbone, load_backbone
from benchmarks import tiny_clip
from benchmarks.streams.dataset_sequence import Transform

if TYPE_CHECKING:
    from benchmarks.config import Config

TINY = "tiny-clip"
_SIDE = 32  # of tiny-clip's images
_CROPS = {"crop": (0.9, 1.0), "flip-crop": (0.08, 1.0)}


@dataclass(frozen=True)
class Views:
    """How images of PIL become input of the tower, in training and in evaluation."""

    train: Transform
    evaluation: Transform


def build_backbone(config: Config) -> Backbone:
    """The tower, as :func:`avalanche_proxyfda.models.load_backbone` makes it, or tiny-clip's."""
    asked = config.backbone
    if asked.name == TINY:
        if asked.weights or asked.image_size or asked.mean or asked.std or asked.options:
            raise ValueError("backbone: tiny-clip comes as it is; it takes no other setting")
        clip = tiny_clip.load()
        view = _normalised(
            [v2.Resize(_SIDE, antialias=True), v2.CenterCrop(_SIDE)], (0.5,) * 3, (0.5,) * 3
        )
        return Backbone(TINY, clip.visual, 128, view, view, clip, tiny_clip.tokenize)
    weights: Any = asked.weights
    if weights is not None and weights != "random":
        weights = config.at(weights)
    return load_backbone(
        asked.name, weights, asked.image_size, asked.mean, asked.std, asked.options
    )


def _normalised(steps: list[Any], mean: Any, std: Any) -> Transform:
    return v2.Compose(
        [*steps, v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std)]
    )


def build_views(config: Config, backbone: Backbone) -> Views:
    """Evaluation as the library does it; training as ``train.augment`` says.

    Raises:
        ValueError: when the library's evaluation view has no normalisation to take over.
    """
    evaluation, kind = backbone.eval_transform, config.train.augment
    if kind == "none":
        return Views(evaluation, evaluation)
    if kind == "library":
        return Views(backbone.train_transform, evaluation)
    norms = [t for t in getattr(evaluation, "transforms", ()) if type(t).__name__ == "Normalize"]
    if len(norms) != 1:
        raise ValueError(
            f"train.augment={kind!r}: {backbone.name} shows no mean and std; take none"
        )
    from PIL import Image

    side = int(evaluation(Image.new("RGB", (64, 64))).shape[-1])
    steps: list[Any] = [
        v2.RandomResizedCrop(
            side, scale=_CROPS[kind], interpolation=v2.InterpolationMode.BICUBIC, antialias=True
        )
    ]
    if kind == "flip-crop":
        steps.append(v2.RandomHorizontalFlip())
    return Views(_normalised(steps, norms[0].mean, norms[0].std), evaluation)
