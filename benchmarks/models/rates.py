"""Parameter groups with a rate for each tower, and for each block of a tower."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from torch import nn

from avalanche_proxyfda.models import layer_depths
from benchmarks.config import Config


def layered_groups(config: Config, model: Any) -> list[dict[str, Any]]:
    """Return groups for the image tower, the text tower and the head, in this order.

    The peak rates are ``train.lr``, ``train.text_lr`` and ``train.head_lr``. With
    ``train.layer_decay`` a trained tower has a group for each depth of
    :func:`~avalanche_proxyfda.models.layer_depths`, from the top. Every parameter of the model is
    in one group, also a frozen one, since Avalanche assigns parameters without a group to the
    group of their neighbours.

    Args:
        config: has the rates.
        model: has the parts ``tower`` and ``head``, and ``text`` if the text tower is trained.

    Raises:
        ValueError: if the rate of the text tower is missing, ``train.layer_decay`` has no tower to
            work on, or the blocks of a tower are unknown.
    """
    train, both = config.train, config.trains_text
    if both and train.lr == 0 and train.text_lr is None:
        raise ValueError(
            "train.lr=0 freezes the image tower: say the text tower's rate, train.text_lr=…"
        )
    if not (both or config.trains_tower):
        raise ValueError(
            f"train.layer_decay={train.layer_decay:g}: no tower is trained; leave it out, or train "
            "a tower"
        )
    groups = _of_tower(config, model.tower, train.lr, config.trains_tower)
    if both:
        groups += _of_tower(config, model.text, train.text_lr or train.lr, True)
    head = list(model.head.parameters())
    if head:
        groups.append({"params": head, "lr": train.head_lr or train.lr})
    return groups


def _of_tower(config: Config, tower: nn.Module, rate: float, trained: bool) -> list[dict[str, Any]]:
    decay = config.train.layer_decay
    if decay is None or not trained:
        return [{"params": list(tower.parameters()), "lr": rate}]
    try:
        depths = layer_depths(tower)
    except ValueError as error:
        raise ValueError(
            f"train.layer_decay={decay:g} with {config.backbone.name}: {error}"
        ) from error
    by_depth: dict[int, list[nn.Parameter]] = defaultdict(list)
    for name, parameter in tower.named_parameters():
        by_depth[depths[name]].append(parameter)
    return [{"params": by_depth[depth], "lr": rate * decay**depth} for depth in sorted(by_depth)]
