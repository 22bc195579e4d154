"""The pre-trained tower of a configuration, and its views of images."""

from __future__ import annotations

from typing import Any

import torch
from PIL import Image
from torchvision.transforms import v2

from avalanche_proxyfda.models import Backbone, load_backbone
from avalanche_proxyfda.models.names import check_backbone_name
from avalanche_proxyfda.models.packaged import PREFIX
from avalanche_proxyfda.models.preprocessing import eval_view
from avalanche_proxyfda.pixels import RowStore, pixel_views
from avalanche_proxyfda.pixels.rows import GB
from avalanche_proxyfda.streams.sequence import Transform
from benchmarks.config import Config
from benchmarks.models import tiny_clip
from benchmarks.streams.views import Views

TINY = "tiny-clip"
_TINY_VIEW = {"library": "torchvision", "size": 32, "mean": (0.5,) * 3, "std": (0.5,) * 3}
_CROPS = {"crop": (0.9, 1.0), "flip-crop": (0.08, 1.0)}


def build_backbone(config: Config) -> Backbone:
    """Load the tower with :func:`avalanche_proxyfda.models.load_backbone`, or tiny-clip's.

    Raises:
        ValueError: if a setting is refused.
        FileNotFoundError, ImportError, ConnectionError: see ``load_backbone``.
    """
    options = config.backbone
    if options.name == TINY:
        if options.weights or options.image_size or options.mean or options.std or options.options:
            raise ValueError(
                "backbone: tiny-clip comes as it is; leave out every setting except backbone.name"
            )
        clip = tiny_clip.load()
        view = eval_view(_TINY_VIEW)
        recipe = {"name": TINY, "clip": tiny_clip.config()}
        texts = (clip, tiny_clip.tokenize)
        return Backbone(TINY, clip.visual, 128, view, view, *texts, _TINY_VIEW, recipe)
    check_backbone_name(options.name, "backbone.name", [TINY])
    weights: Any = options.weights
    if weights is not None and weights != "random" and not weights.startswith(PREFIX):
        weights = config.at(weights)
    try:
        return load_backbone(
            options.name, weights, options.image_size, options.mean, options.std, options.options
        )
    except ConnectionError as error:
        if weights is not None:  # a file is there already
            raise
        raise ConnectionError(f"{error} (in a command: --set backbone.weights=FILE)") from error


def _normalised(steps: list[Any], mean: Any, std: Any) -> Transform:
    return v2.Compose(
        [*steps, v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std)]
    )


def _pixel_views(config: Config, backbone: Backbone) -> Views:
    kind: Any = config.train.augment
    store = None
    if config.train.pipeline == "cached":
        folder = config.where.pixel_dir
        store = RowStore(folder and config.at(folder), int(config.where.pixel_gb * GB))
    try:
        return Views(*pixel_views(backbone.eval_transform, kind, store))
    except ValueError as error:
        raise ValueError(f"train.pipeline={config.train.pipeline!r}: {error}") from error


def build_views(config: Config, backbone: Backbone) -> Views:
    """Build the views: the library's view for evaluation, ``train.augment``'s for training.

    With ``train.pipeline`` other than ``pil``, the views are those of
    :func:`~avalanche_proxyfda.pixels.pixel_views`.

    Raises:
        ImportError: if ``train.pipeline`` needs a decoder that torchvision lacks.
        ValueError: if a step of a view has no translation to uint8 tensors, or
            ``train.augment`` needs the mean and the standard deviation of the
            library's evaluation view, and the view has none.
    """
    evaluation, kind = backbone.eval_transform, config.train.augment
    if config.train.pipeline != "pil":
        return _pixel_views(config, backbone)
    if kind == "library":
        return Views(backbone.train_transform, evaluation)
    return Views(pil_view(evaluation, kind, backbone.name), evaluation)


def pil_view(evaluation: Transform, kind: str, name: str = "the backbone") -> Transform:
    """Build the training view of RGB images of PIL.

    Args:
        evaluation: evaluation view of the library.
        kind: ``train.augment`` other than ``library``.
        name: name of the backbone, for the error.

    Raises:
        ValueError: if the view has no mean and standard deviation, and ``kind`` needs them.
    """
    if kind == "none":
        return evaluation
    norms = [t for t in getattr(evaluation, "transforms", ()) if type(t).__name__ == "Normalize"]
    if len(norms) != 1:
        raise ValueError(
            f"train.augment={kind!r}: the evaluation view of {name} has no mean and std; "
            "set train.augment=none"
        )
    side = int(evaluation(Image.new("RGB", (64, 64))).shape[-1])
    steps: list[Any] = [
        v2.RandomResizedCrop(
            side, scale=_CROPS[kind], interpolation=v2.InterpolationMode.BICUBIC, antialias=True
        )
    ]
    if kind == "flip-crop":
        steps.append(v2.RandomHorizontalFlip())
    return _normalised(steps, norms[0].mean, norms[0].std)
