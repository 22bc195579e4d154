"""The state of Avalanche's metrics and plugins, which have no ``state_dict``: their attributes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from avalanche_proxyfda.saving.files import CheckpointError
from avalanche_proxyfda.saving.tree import UnsavedError

_OBJECT, _STATE = "avalanche object", "state_dict of"
_PLAIN = (bool, int, float, str, bytes, type(None), Tensor, np.ndarray, np.generic,
          torch.device, torch.dtype)  # fmt: skip


def attributes_of(holder: Any, path: str, skip: tuple[str, ...] = ()) -> dict[str, Any]:
    """All attributes of an object that may change, as plain data.

    Functions, classes and modules are what the script made them, and are left out.

    Raises:
        UnsavedError: for an attribute that is neither plain data, nor has a ``state_dict``, nor
            is an object of Avalanche that consists of such.
    """
    return {
        name: _seen(value, f"{path}.{name}")
        for name, value in vars(holder).items()
        if name not in skip and not _is_fixed(value)
    }


def _is_fixed(value: Any) -> bool:
    if isinstance(value, (list, tuple)) and value:
        return all(_is_fixed(entry) for entry in value)
    return isinstance(value, (Callable, nn.Module)) and not _has_state(value)  # type: ignore[arg-type]


def _has_state(value: Any) -> bool:
    known = callable(getattr(value, "state_dict", None)) and callable(
        getattr(value, "load_state_dict", None)
    )
    return known and not isinstance(value, (nn.Module, torch.optim.Optimizer, type))


def _seen(value: Any, path: str, depth: int = 0) -> Any:
    if depth > 20:
        raise UnsavedError(f"{path} goes round in a circle")
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, torch.optim.Optimizer):
        return None  # a scheduler's, which is the strategy's own
    if isinstance(value, Mapping):
        return {key: _seen(entry, f"{path}[{key!r}]", depth + 1) for key, entry in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        made = (_seen(entry, f"{path}[{k}]", depth + 1) for k, entry in enumerate(value))
        return type(value)(made) if type(value) in (list, tuple, set, frozenset) else list(made)
    if _has_state(value):
        return {_STATE: type(value).__qualname__, "state": value.state_dict()}
    kind = type(value)
    if kind.__module__.startswith("avalanche.evaluation."):
        held = {n: _seen(v, f"{path}.{n}", depth + 1) for n, v in vars(value).items()
                if not _is_fixed(v)}  # fmt: skip
        return {_OBJECT: f"{kind.__module__}:{kind.__qualname__}", "attributes": held}
    raise UnsavedError(
        f"{path} is a {kind.__module__}.{kind.__qualname__}, which a checkpoint cannot hold: give "
        "its owner state_dict() and load_state_dict()"
    )


def load_attributes(holder: Any, state: Mapping[str, Any]) -> None:
    """Put back what :func:`attributes_of` found.

    Raises:
        CheckpointError: when the object is not built as it was.
    """
    for name, value in state.items():
        setattr(holder, name, _restored(value, getattr(holder, name, None)))


def _restored(value: Any, present: Any) -> Any:
    if isinstance(value, dict) and _STATE in value:
        if type(present).__qualname__ != value[_STATE]:
            raise CheckpointError(
                f"the checkpoint holds the state of a {value[_STATE]}, here is a "
                f"{type(present).__qualname__}"
            )
        present.load_state_dict(value["state"])
        return present
    if isinstance(value, dict) and _OBJECT in value:
        made = present
        if made is None or _name(made) != value[_OBJECT]:
            kind = _class(value[_OBJECT])
            made = object.__new__(kind)
        load_attributes(made, value["attributes"])
        return made
    if isinstance(value, dict):
        entries = {key: _restored(entry, None) for key, entry in value.items()}
        if isinstance(present, dict):  # a defaultdict keeps its factory
            present.clear()
            present.update(entries)
            return present
        return entries
    if isinstance(value, (list, tuple)):
        old = present if isinstance(present, (list, tuple)) and len(present) == len(value) else None
        made = [_restored(v, old[k] if old else None) for k, v in enumerate(value)]
        return tuple(made) if isinstance(value, tuple) else made
    return value


def _name(made: object) -> str:
    return f"{type(made).__module__}:{type(made).__qualname__}"


def _class(name: str) -> type[Any]:
    """A class of Avalanche's metrics by name; nothing else is ever made from a file."""
    module, _, qualified = name.partition(":")
    found: Any = sys.modules.get(module) if module.startswith("avalanche.evaluation.") else None
    for part in qualified.split("."):
        found = getattr(found, part, None)
    if not isinstance(found, type) or found.__module__ != module:
        raise CheckpointError(f"the checkpoint asks for {name!r}, which is no class of a metric")
    return found
