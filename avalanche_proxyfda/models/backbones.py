"""Loads pre-trained image towers of open_clip and timm, with their preprocessing."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from avalanche_proxyfda._files import expanded
from avalanche_proxyfda.models.weight_files import read_weights

Transform = Callable[[Any], Tensor]
RANDOM = "random"


@dataclass(frozen=True)
class Backbone:
    """An image tower with its preprocessing and, for CLIP, its text side.

    Attributes:
        name: name that was passed to :func:`load_backbone`.
        tower: maps images [B, 3, H, W] to embeddings [B, D]; trainable, in eval mode.
        dim: D.
        train_transform: maps an RGB image of PIL to a tensor, with random crops and flips.
        eval_transform: maps an RGB image of PIL to a tensor, without randomness.
        clip: the whole CLIP model; None for timm.
        tokenizer: maps texts to token ids; None for timm.
    """

    name: str
    tower: nn.Module
    dim: int
    train_transform: Transform
    eval_transform: Transform
    clip: nn.Module | None = None
    tokenizer: Callable[[list[str]], Tensor] | None = None


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
        weights: a local file, ``.safetensors`` or a state dict that torch reads with
            ``weights_only=True``; ``"random"`` keeps the random initialisation; None lets the
            library download the pre-trained weights.
        image_size: side of the images in pixels; None takes the model's.
        mean: mean of each image channel; None takes the model's.
        std: standard deviation of each image channel; None takes the model's.
        options: more arguments of the library's ``create_model``. Arguments that make the
            library read weights are refused.

    Raises:
        ValueError: for an unknown architecture, tag or model (the message lists similar names),
            weights that do not fit or are not safe to read, or options that read weights.
        FileNotFoundError: when the file ``weights`` does not exist.
        ImportError: when timm is needed and not installed.
        ConnectionError: when the download of the weights fails.
    """
    family, _, model = name.partition(":")
    if family not in ("open_clip", "timm") or not model:
        raise ValueError(
            f"name={name!r} is unknown: give 'open_clip:ARCHITECTURE/TAG' or 'timm:MODEL'"
        )
    if weights is not None and weights != RANDOM:
        weights = expanded(weights)
        if not weights.is_file():
            raise FileNotFoundError(f"weights={str(weights)!r} is not a file")
    _check_options(options or {})
    build = _open_clip if family == "open_clip" else _timm
    return build(name, model, weights, image_size, (mean, std), dict(options or {}))


def _check_options(options: Mapping[str, Any]) -> None:
    """Refuse options that make the library read weight files without our checks."""
    for key in options:
        if key.startswith(("pretrained", "checkpoint")) or "weights" in key or key == "jit":
            raise ValueError(
                f"options: {key!r} decides which weights the library reads; pass weights=FILE, "
                "or a name with pre-trained weights"
            )


def _near(kind: str, value: str, known: Iterable[str]) -> ValueError:
    names = list(known)
    near = difflib.get_close_matches(value, names, n=3, cutoff=0.5) or names[:3]
    return ValueError(f"{kind} {value!r} is unknown; near ones: {', '.join(near)}")


@torch.no_grad()
def _width(tower: nn.Module, side: int, name: str) -> int:
    """Return the width of the tower's embeddings, measured on a blank image."""
    try:
        embedding: Tensor = tower(torch.zeros(1, 3, side, side))
    except Exception as error:
        raise ValueError(
            f"{name} does not take images of {side} x {side} ({error}): choose another image_size, "
            "or pass the size in options (for timm's ViTs: {'img_size': SIDE})"
        ) from error
    if not isinstance(embedding, Tensor) or embedding.ndim != 2:
        raise ValueError(f"{name} does not give one vector an image; choose another model")
    return embedding.shape[1]


def _fit(
    model: nn.Module, state: dict[str, Tensor], path: object, dropped: tuple[str, ...] = ()
) -> None:
    """Load ``state`` strictly, without the entries of the modules ``dropped``."""
    starts = tuple(f"{name}." for name in dropped)
    if starts:
        state = {k: v for k, v in state.items() if not k.startswith(starts)}
    expected = model.state_dict()
    wrong = [
        *(f"{k} is missing" for k in sorted(set(expected) - set(state))),
        *(f"{k} is not in the model" for k in sorted(set(state) - set(expected))),
        *(
            f"{k} is {tuple(state[k].shape)}, the model's {tuple(expected[k].shape)}"
            for k in sorted(set(expected) & set(state))
            if expected[k].shape != state[k].shape
        ),
    ]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise ValueError(f"weights={str(path)!r} do not fit: {'; '.join(wrong[:3])}{more}")
    model.load_state_dict(state)


def _downloaded(create: Callable[[], Any], name: str) -> Any:
    try:
        return create()
    except (OSError, RuntimeError) as error:  # hubs raise both
        raise ConnectionError(
            f"the weights of {name} could not be downloaded ({type(error).__name__}: {error}): "
            "download them on a machine with a network and pass weights=FILE"
        ) from error


def _open_clip(
    name: str,
    model: str,
    weights: Path | str | None,
    image_size: int | None,
    colour: tuple[Any, Any],
    options: dict[str, Any],
) -> Backbone:
    import open_clip

    architecture, _, tag = model.partition("/")
    if architecture not in open_clip.list_models():
        raise _near("the open_clip architecture", architecture, open_clip.list_models())
    if weights is None and not tag:
        tags = open_clip.list_pretrained_tags_by_model(architecture)
        raise _near(f"the tag of {architecture}", tag, tags)
    known: dict[str, Any] = open_clip.get_pretrained_cfg(architecture, tag) if tag else {}
    if tag and not known:
        tags = open_clip.list_pretrained_tags_by_model(architecture)
        raise _near(f"the tag of {architecture}", tag, tags)
    settings: dict[str, Any] = {
        "pretrained": tag if weights is None else None,
        "force_image_size": image_size,
        # without this, open_clip gives the towers of some tags a wrong activation, and only warns
        "force_quick_gelu": bool(known.get("quick_gelu", False)),
    }
    for key, value in zip(("mean", "std"), colour, strict=True):
        if value or known.get(key):
            settings[f"image_{key}"] = tuple(value or known[key])
    settings |= options

    def create() -> Any:
        return open_clip.create_model_and_transforms(architecture, **settings)

    state = None if weights in (None, RANDOM) else read_weights(str(weights))
    clip, train_view, eval_view = _downloaded(create, name) if weights is None else create()
    if state is not None:
        _fit(clip, state, weights)

    def tokenize(texts: list[str]) -> Tensor:  # some tokenizers need one more library
        ids: Tensor = open_clip.get_tokenizer(architecture)(texts)
        return ids

    size = clip.visual.image_size
    side = int(size[0] if isinstance(size, (tuple, list)) else size)
    dim = _width(clip.visual.eval(), side, name)
    return Backbone(name, clip.visual, dim, train_view, eval_view, clip.eval(), tokenize)


def _timm(
    name: str,
    model: str,
    weights: Path | str | None,
    image_size: int | None,
    colour: tuple[Any, Any],
    options: dict[str, Any],
) -> Backbone:
    try:
        import timm
    except ImportError as error:
        raise ImportError(f"{name} needs timm: pip install 'avalanche-proxyfda[timm]'") from error
    if not timm.is_model(model):
        raise _near("the timm model", model, timm.list_models())

    def create() -> Any:
        return timm.create_model(model, pretrained=weights is None, num_classes=0, **options)

    state = None if weights in (None, RANDOM) else read_weights(str(weights))
    tower = _downloaded(create, name) if weights is None else create()
    if state is not None:
        head = tower.pretrained_cfg.get("classifier") or "classifier"
        heads = (head,) if isinstance(head, str) else tuple(head)
        _fit(tower, state, weights, heads)
    config = timm.data.resolve_model_data_config(tower)
    if image_size is not None:
        config["input_size"] = (3, image_size, image_size)
    for key, value in zip(("mean", "std"), colour, strict=True):
        if value is not None:
            config[key] = value
    views = [timm.data.create_transform(**config, is_training=on) for on in (True, False)]
    dim = _width(tower.eval(), int(config["input_size"][-1]), name)
    return Backbone(name, tower, dim, views[0], views[1])
