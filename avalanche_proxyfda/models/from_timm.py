"""Image towers of timm."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from avalanche_proxyfda.models.backbone import RANDOM, Backbone, created, width
from avalanche_proxyfda.models.fitting import misfits, refusal, unwrapped
from avalanche_proxyfda.models.names import near
from avalanche_proxyfda.models.packaged import PREFIX, packaged, renamed
from avalanche_proxyfda.models.preprocessing import eval_view
from avalanche_proxyfda.models.weight_files import read_weights


def timm_backbone(
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
        model: name of timm's model.
        weights: file, ``"package:NAME"``, ``"random"`` or None.
        image_size: side in pixels, or None.
        colour: mean and standard deviation of the channels, each or None.
        options: more arguments of ``timm.create_model``.
    """
    try:
        import timm
    except ImportError as error:
        raise ImportError(f"{name} needs timm: pip install 'avalanche-proxyfda[timm]'") from error
    if not timm.is_model(model):
        raise near("the timm model", model, timm.list_models())

    def create(pretrained: bool = False, **more: Any) -> Any:
        given = {"num_classes": 0, **more}
        return timm.create_model(model, pretrained=pretrained, **given, **options)

    state = None if weights in (None, RANDOM) else _state_of(str(weights), name, create)
    tower = created(lambda: create(weights is None), name, options, weights is None)
    if state is not None:
        tower = _loaded(tower, state, create, weights)
    config = timm.data.resolve_model_data_config(tower)
    if image_size is not None:
        config["input_size"] = (3, image_size, image_size)
    for key, value in zip(("mean", "std"), colour, strict=True):
        if value is not None:
            config[key] = value
    preprocessing = {"library": "timm", **config}
    return Backbone(
        name,
        tower,
        width(tower.eval(), int(config["input_size"][-1]), name),
        timm.data.create_transform(**config, is_training=True),
        eval_view(preprocessing),
        preprocessing=preprocessing,
        recipe={"name": name, "image_size": image_size, "options": options},
    )


def _state_of(weights: str, name: str, create: Any) -> dict[str, Tensor]:
    """Return the state in a file, or packaged weights under the names of timm's classifier."""
    if not weights.startswith(PREFIX):
        return read_weights(weights)
    _, path = packaged(weights, name)
    with torch.device("meta"):
        classifier = create(num_classes=1000)
    return renamed(read_weights(path), classifier, weights)


def _loaded(tower: nn.Module, state: dict[str, Tensor], create: Any, path: object) -> nn.Module:
    """Load a file's state as timm loads its hub's; return the tower.

    Entries of the classifier's head are left out. A state of other names or shapes goes through
    timm's own conversion of the model, which resizes position embeddings and renames the entries
    of other code bases.

    Raises:
        ValueError: if an entry of the tower gets no value, or a shape differs.
    """
    own = tower.state_dict()
    state = unwrapped(state, own)
    head = _head_names(create) - set(own)
    bare = {k: v for k, v in state.items() if k not in head}
    wrong = misfits(tower, bare)
    if not wrong:
        tower.load_state_dict(bare)
        return tower
    try:
        made: nn.Module = _converted(create, state)
        # the same conversion of a state that is NaN throughout says which entries it sets
        blank = _converted(create, {k: _nan(v) for k, v in state.items()})
    except Exception as error:  # conversions are written for the hub's files alone
        raise refusal(wrong, path) from error
    missing = [
        f"{name} is missing"
        for name, value in blank.state_dict().items()
        if value.is_floating_point() and value.numel() and not bool(value.isnan().any())
    ]
    if missing:
        raise refusal(missing, path)
    return made


def _head_names(create: Any) -> set[str]:
    """Return the state's names of the model with a classifier."""
    try:
        with torch.device("meta"):
            full = create(num_classes=2)
    except Exception:  # some models compute with their weights as they are built
        full = create(num_classes=2)
    return set(full.state_dict())


def _converted(create: Any, state: dict[str, Tensor]) -> Any:
    made = create(pretrained=True, pretrained_cfg_overlay={"state_dict": dict(state)})
    made.pretrained_cfg.pop("state_dict")  # else every copy of the tower would hold it
    return made


def _nan(value: Tensor) -> Tensor:
    return torch.full_like(value, float("nan")) if value.is_floating_point() else value
