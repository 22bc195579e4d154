"""Image towers of open_clip."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from avalanche_proxyfda.models.backbone import RANDOM, Backbone, created, width
from avalanche_proxyfda.models.fitting import fit, misfits, unwrapped
from avalanche_proxyfda.models.names import near
from avalanche_proxyfda.models.preprocessing import (
    TAG_SETTINGS,
    agreed_settings,
    eval_view,
    tag_settings,
)
from avalanche_proxyfda.models.weight_files import read_weights

_OPTIONS = {
    "mean": "image_mean",
    "std": "image_std",
    "interpolation": "image_interpolation",
    "resize_mode": "image_resize_mode",
    "quick_gelu": "force_quick_gelu",
}
"""Arguments of ``create_model_and_transforms`` by setting of a tag."""


def open_clip_backbone(
    name: str,
    model: str,
    weights: Path | str | None,
    image_size: int | None,
    colour: tuple[Any, Any],
    options: dict[str, Any],
) -> Backbone:
    """Load a tower; see :func:`~avalanche_proxyfda.models.load_backbone`.

    Args:
        name: whole name of the backbone.
        model: ``ARCHITECTURE/TAG``.
        weights: file, ``"random"`` or None.
        image_size: side in pixels, or None.
        colour: mean and standard deviation of the channels, each or None.
        options: more arguments of ``create_model_and_transforms``.
    """
    import open_clip

    architecture, _, tag = model.partition("/")
    if architecture not in open_clip.list_models():
        raise near("the open_clip architecture", architecture, open_clip.list_models())
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    if (weights is None or tag) and not open_clip.is_pretrained_cfg(architecture, tag):
        raise near(f"the tag of {architecture}", tag, tags)
    state = None if weights in (None, RANDOM) else read_weights(str(weights))
    given = {k: v for k, v in zip(("mean", "std"), colour, strict=True) if v}
    given |= {k: options[of] for k, of in _OPTIONS.items() if of in options}
    known = (
        tag_settings(architecture, tag)
        if tag
        else agreed_settings(architecture, given, None if state is None else weights)
    )
    settings = {_OPTIONS[key]: given.get(key, known[key]) for key in TAG_SETTINGS}
    build = {
        "pretrained": tag if weights is None else None,
        "force_image_size": image_size,
        **options,
        **settings,
    }
    if weights is not None:
        build["pretrained_text"] = False  # the text tower's own weights would be downloaded

    def create(**changes: Any) -> Any:
        return open_clip.create_model_and_transforms(architecture, **{**build, **changes})

    clip, train_view, _ = created(create, name, options, weights is None)
    if state is not None:
        clip = _loaded(clip, state, create, image_size, weights)

    def tokenize(texts: list[str]) -> Tensor:  # some tokenizers need one more library
        ids: Tensor = open_clip.get_tokenizer(architecture)(texts)
        return ids

    preprocessing = {"library": "open_clip", **clip.visual.preprocess_cfg}
    size = clip.visual.image_size
    side = int(size[0] if isinstance(size, (tuple, list)) else size)
    tower = _one_vector(clip)
    return Backbone(
        name,
        tower,
        width(tower.eval(), side, name),
        train_view,
        eval_view(preprocessing),
        clip.eval(),
        tokenize,
        preprocessing,
        {"name": name, "image_size": image_size, "options": {**options, **settings}},
    )


def _one_vector(clip: Any) -> nn.Module:
    """Return the image tower; CoCa's gives tokens too, which a copy of its outer module omits."""
    tower: Any = clip.visual
    if getattr(tower, "output_tokens", False):
        tower = copy.copy(tower)  # the parameters are those of ``clip``
        tower.output_tokens = False
    return tower  # type: ignore[no-any-return]


def _loaded(
    clip: Any, state: dict[str, Tensor], create: Any, image_size: int | None, path: object
) -> Any:
    """Load a file's state as ``open_clip.load_checkpoint`` does; return the model.

    Position embeddings of another size are resized by open_clip. A timm tower is resized after
    its weights are loaded.
    """
    state = unwrapped(state, clip.state_dict())
    found = _converted(clip, state)
    trunk = getattr(clip.visual, "trunk", None)
    if trunk is not None and image_size is not None and misfits(clip, found):
        native, _, _ = create(force_image_size=None)
        fit(native, _converted(native, state), path)
        native.visual.set_input_size(image_size)
        native.visual.preprocess_cfg = clip.visual.preprocess_cfg
        return native
    fit(clip, found, path)
    return clip


def _converted(clip: Any, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the state in the names and shapes of ``clip``, as ``load_checkpoint`` makes it."""
    from open_clip.convert import convert_state_dict
    from open_clip.model import (
        convert_to_custom_text_state_dict,
        resize_pos_embed,
        resize_text_pos_embed,
    )

    state = convert_state_dict(clip, dict(state))
    if "positional_embedding" in state and not hasattr(clip, "positional_embedding"):
        state = convert_to_custom_text_state_dict(state)
    for key in ("logit_scale", "logit_bias"):  # a number, or a vector of one
        own = getattr(clip, key, None)
        if key in state and own is not None and state[key].numel() == own.numel():
            state[key] = state[key].reshape(own.shape)
    if getattr(clip, "logit_bias", None) is not None and "logit_scale" in state:
        state.setdefault("logit_bias", torch.zeros_like(state["logit_scale"]))
    ids = "text.transformer.embeddings.position_ids"
    if ids in state and ids not in clip.state_dict():
        del state[ids]  # transformers before 4.31 saved them
    rows = len(state.get("visual.positional_embedding", ()))
    if rows > 1 and math.isqrt(rows - 1) ** 2 == rows - 1:  # a class token and a square grid
        resize_pos_embed(state, clip)
    own = clip.state_dict()
    for key in ("positional_embedding", "text.positional_embedding"):
        if key in state and key in own and state[key].shape[1:] == own[key].shape[1:]:
            resize_text_pos_embed(state, clip)
            break
    return dict(state)
