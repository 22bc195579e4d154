"""Refuses strategies and plugins that keep between steps what a checkpoint does not hold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from avalanche.training import Cumulative
from avalanche.training.plugins import (
    FeatureDistillationPlugin,
    GenerativeReplayPlugin,
    LFLPlugin,
    LwFPlugin,
)
from torch import nn

from avalanche_proxyfda.checkpoint.tree import UnsavedError

_KEEPERS: dict[type, tuple[str, str]] = {
    Cumulative: ("dataset, the data of all experiences", ""),
    LwFPlugin: ("lwf, with its teacher", ", or take LwFPlugin of avalanche_proxyfda"),
    LFLPlugin: ("prev_model, its teacher", ""),
    FeatureDistillationPlugin: ("prev_model, its teacher", ""),
    GenerativeReplayPlugin: ("old_generator and old_model", ""),
}
"""Classes of Avalanche that make data sets or models in training: attribute, and a remedy."""


def check_keepers(holders: Iterable[Any]) -> None:
    """Raise UnsavedError for an object of Avalanche that makes a data set or model in training.

    Args:
        holders: a strategy and its plugins.
    """
    for holder in holders:
        for kind, (kept, remedy) in _KEEPERS.items():
            if isinstance(holder, kind):
                raise UnsavedError(
                    f"{type(holder).__qualname__} keeps {kept}, which a checkpoint cannot hold: "
                    f"train without checkpoints{remedy}"
                )


def modules_of(holders: Iterable[Any]) -> dict[int, set[str]]:
    """Return the names of the attributes that are modules, by the holder's identity.

    Args:
        holders: a strategy and its plugins, which stay alive.
    """
    return {id(holder): _modules(holder) for holder in holders}


def check_modules(holders: Iterable[Any], known: Mapping[int, set[str]]) -> None:
    """Raise UnsavedError for an attribute that has become a module since :func:`modules_of`.

    The script makes modules of the beginning again, so a checkpoint does not hold them. A module
    that training has made would be lost.

    Args:
        holders: a strategy and its plugins; those that are not in ``known`` are skipped.
        known: the result of :func:`modules_of` before training.
    """
    for holder in holders:
        for name in sorted(_modules(holder) - known.get(id(holder), _modules(holder))):
            raise UnsavedError(
                f"{type(holder).__qualname__}.{name} is a module that training has made, and a "
                "checkpoint cannot hold it: give its owner state_dict() and load_state_dict(), or "
                "train without checkpoints"
            )


def _modules(holder: Any) -> set[str]:
    if all(callable(getattr(holder, n, None)) for n in ("state_dict", "load_state_dict")):
        return set()  # its own state is complete
    return {name for name, value in vars(holder).items() if isinstance(value, nn.Module)}
