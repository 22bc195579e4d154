"""Preprocessing of images as data: what a library's evaluation view does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms import v2

Transform = Callable[[Any], Tensor]


def eval_view(preprocessing: Mapping[str, Any]) -> Transform:
    """Build the evaluation view that settings describe.

    Args:
        preprocessing: ``library`` and the settings of that library. ``"open_clip"`` has the
            fields of ``PreprocessCfg``, ``"timm"`` the data configuration of a model.
            ``"torchvision"`` has ``size``, ``mean`` and ``std``: the shorter side becomes
            ``size``, bilinearly, and the centre is cropped.

    Returns:
        A function from an RGB image of PIL to a tensor [3, H, W].

    Raises:
        ImportError: if the library is not installed.
        ValueError: for another library, or settings that it does not have.
    """
    settings = {k: tuple(v) if isinstance(v, list) else v for k, v in preprocessing.items()}
    library = settings.pop("library", None)
    build = {"open_clip": _open_clip, "timm": _timm, "torchvision": _torchvision}.get(str(library))
    if build is None:
        raise ValueError(
            f"preprocessing: library={library!r} is none of open_clip, timm and torchvision"
        )
    try:
        return build(settings)
    except (TypeError, ValueError, AssertionError, KeyError) as error:
        raise ValueError(f"preprocessing={settings}: {library} refuses it: {error}") from error


def _open_clip(settings: dict[str, Any]) -> Transform:
    from open_clip.transform import PreprocessCfg, image_transform_v2

    view: Transform = image_transform_v2(PreprocessCfg(**settings), is_train=False)
    return view


def _timm(settings: dict[str, Any]) -> Transform:
    from timm.data import create_transform

    view: Transform = create_transform(**settings, is_training=False)
    return view


def _torchvision(settings: dict[str, Any]) -> Transform:
    size = settings["size"]
    view: Transform = v2.Compose(
        [
            v2.Resize(size, antialias=True),
            v2.CenterCrop(size),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(settings["mean"], settings["std"]),
        ]
    )
    return view


TAG_SETTINGS = {
    "mean": "mean=…",
    "std": "std=…",
    "interpolation": "options={'image_interpolation': …}",
    "resize_mode": "options={'image_resize_mode': …}",
    "quick_gelu": "options={'force_quick_gelu': …}",
}
"""Settings of images and activation that belong to the weights of an open_clip tag, with the
arguments of :func:`~avalanche_proxyfda.models.load_backbone` that replace them."""


def tag_settings(architecture: str, tag: str) -> dict[str, Any]:
    """Return the settings of an open_clip tag, whatever file the weights come from.

    Args:
        architecture: name of the architecture.
        tag: one of its tags.
    """
    from open_clip import get_pretrained_cfg

    known = {**_usual(), **get_pretrained_cfg(architecture, tag)}
    return {key: known[key] for key in TAG_SETTINGS}


def _usual() -> dict[str, Any]:
    from open_clip.transform import PreprocessCfg

    return {**asdict(PreprocessCfg()), "quick_gelu": False}


def agreed_settings(architecture: str, given: Mapping[str, Any], weights: object) -> dict[str, Any]:
    """Return the settings on which all tags of an architecture agree.

    An architecture without tags has open_clip's own defaults.

    Args:
        architecture: name of the architecture.
        given: settings that the user gives, which need no agreement.
        weights: file of the weights, for the error; None keeps open_clip's default where the
            tags disagree, as random weights fit any images.

    Raises:
        ValueError: if the tags disagree on a setting that is not given; names the tags.
    """
    from open_clip import list_pretrained_tags_by_model

    found = _usual()
    names = list_pretrained_tags_by_model(architecture)
    tags = {tag: tag_settings(architecture, tag) for tag in names}
    for key, remedy in TAG_SETTINGS.items():
        values: dict[Any, list[str]] = {}
        for tag, settings in tags.items():
            values.setdefault(settings[key], []).append(tag)
        if len(values) == 1:
            found[key] = next(iter(values))
        elif len(values) > 1 and weights is not None and key not in given:
            sides = "; ".join(f"{value}: {', '.join(of[:3])}" for value, of in values.items())
            raise ValueError(
                f"weights={str(weights)!r}: the tags of {architecture} disagree on {key} "
                f"({sides}); name the tag of the weights, as in "
                f"open_clip:{architecture}/{names[0]}, or pass {remedy}"
            )
    return {key: found[key] for key in TAG_SETTINGS}
