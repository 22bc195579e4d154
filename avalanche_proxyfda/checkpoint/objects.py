"""State of Avalanche's metrics and plugins, which have no ``state_dict``: their attributes."""

from __future__ import annotations

import copy
import functools
import logging
import sys
import types
from collections.abc import Mapping
from enum import Enum
from pathlib import PurePath
from typing import Any

import numpy as np
import torch
from avalanche.training.utils import ParamData
from torch import Tensor, nn

from avalanche_proxyfda.checkpoint.files import CheckpointError
from avalanche_proxyfda.checkpoint.tree import UnsavedError

_FIXED = (
    type,
    types.FunctionType,
    types.BuiltinFunctionType,
    types.MethodType,
    functools.partial,
    logging.Logger,
    PurePath,
    Enum,
    nn.Module,
)
"""Kinds of values that a script makes again, and that training does not change."""
_OBJECT, _STATE = "avalanche object", "state_dict of"
_TENSOR = "tensor on"
"""Marks a tensor of an accelerator, with the type of its device."""
_PLAIN = (
    bool,
    int,
    float,
    str,
    bytes,
    type(None),
    Tensor,
    np.ndarray,
    np.generic,
    torch.device,
    torch.dtype,
)


def attributes_of(holder: Any, path: str, skip: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the attributes of an object that training may change, as plain data.

    Functions, classes, modules, loggers, paths and members of enumerations are skipped, since the
    script makes them again.

    Args:
        holder: the object.
        path: name of the object, for messages.
        skip: names of attributes to skip.

    Raises:
        UnsavedError: for an attribute that is no plain data, has no ``state_dict``, and is no
            metric object of Avalanche with such attributes.
    """
    return {
        name: _plain(value, f"{path}.{name}")
        for name, value in vars(holder).items()
        if name not in skip and not _is_fixed(value)
    }


def _is_fixed(value: Any) -> bool:
    """Return True for functions, classes, modules and the like, and sequences of these."""
    if isinstance(value, (list, tuple)) and value:
        return all(_is_fixed(entry) for entry in value)
    return isinstance(value, _FIXED) and not _has_state(value)


def _has_state(value: Any) -> bool:
    methods = ("state_dict", "load_state_dict")
    has_methods = all(callable(getattr(value, name, None)) for name in methods)
    return has_methods and not isinstance(value, (nn.Module, torch.optim.Optimizer, type))


def _plain(value: Any, path: str, depth: int = 0) -> Any:
    if depth > 20:
        raise UnsavedError(f"{path} is nested in more than 20 levels, or contains itself")
    if isinstance(value, Tensor) and value.device.type != "cpu":
        return {_TENSOR: value.device.type, "value": value}
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, torch.optim.Optimizer):
        return None  # a scheduler holds the strategy's optimizer, which is saved elsewhere
    if isinstance(value, Mapping):
        return {key: _plain(entry, f"{path}[{key!r}]", depth + 1) for key, entry in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        entries = (_plain(entry, f"{path}[{k}]", depth + 1) for k, entry in enumerate(value))
        kind = type(value) if type(value) in (list, tuple, set, frozenset) else list
        return kind(entries)
    if _has_state(value):
        return {_STATE: type(value).__qualname__, "state": value.state_dict()}
    kind = type(value)
    if kind.__module__.startswith("avalanche.evaluation.") or _is_data(value):
        attributes = {
            name: _plain(entry, f"{path}.{name}", depth + 1)
            for name, entry in vars(value).items()
            if not _is_fixed(entry)
        }
        return {_OBJECT: _name(value), "attributes": attributes}
    raise UnsavedError(
        f"{path} is a {kind.__module__}.{kind.__qualname__}, which a checkpoint cannot hold: give "
        "its owner state_dict() and load_state_dict(), or train without checkpoints"
    )


def _is_data(value: Any) -> bool:
    """Return True for a tensor with its name, as Avalanche's EWC keeps it."""
    return type(value) is ParamData and value.init_function is torch.zeros


def load_attributes(holder: Any, state: Mapping[str, Any], device: torch.device) -> None:
    """Set the attributes that :func:`attributes_of` returned; ``state`` may be loaded again.

    Tensors and ``torch.device`` values of any accelerator go to ``device``. Other tensors go to
    the device of the tensor that they replace, and to the CPU if they replace none.

    Args:
        holder: the object.
        state: the result of :func:`attributes_of`.
        device: device of the strategy.

    Raises:
        CheckpointError: if the object was built differently.
    """
    for name, value in state.items():
        setattr(holder, name, _restored(value, getattr(holder, name, None), device))


def move_beside_weights(value: Any, device: torch.device) -> None:
    """Move the tensors with names to ``device``, in place, also those in mappings and sequences.

    EWC, MAS and RWalk of Avalanche keep these tensors on the device of the weights. A checkpoint
    that was saved on the CPU gives them back on the CPU.

    Args:
        value: the attributes of such a plugin, or a part of them.
        device: device of the weights.
    """
    if isinstance(value, ParamData):
        value._data, value.device = value._data.to(device), device
    elif isinstance(value, Mapping):
        for entry in value.values():
            move_beside_weights(entry, device)
    elif isinstance(value, (list, tuple)):
        for entry in value:
            move_beside_weights(entry, device)


def _restored(value: Any, present: Any, device: torch.device) -> Any:
    """Return a saved value without any memory of the state, which a resume loads twice."""
    if isinstance(value, Tensor):
        return value.to(present.device if isinstance(present, Tensor) else "cpu", copy=True)
    if isinstance(value, torch.device):
        return value if value.type == "cpu" else device
    if isinstance(value, dict) and _TENSOR in value:
        return value["value"].to(device, copy=True)
    if isinstance(value, dict) and _STATE in value:
        if type(present).__qualname__ != value[_STATE]:
            raise CheckpointError(
                f"the checkpoint holds the state of a {value[_STATE]}, here is a "
                f"{type(present).__qualname__}"
            )
        present.load_state_dict(copy.deepcopy(value["state"]))
        return present
    if isinstance(value, dict) and _OBJECT in value:
        metric = present
        if metric is None or _name(metric) != value[_OBJECT]:
            kind = _class(value[_OBJECT])
            metric = ParamData("", (0,)) if kind is ParamData else object.__new__(kind)
        load_attributes(metric, value["attributes"], device)
        if isinstance(metric, ParamData):
            metric.shape = torch.Size(metric.shape)
            if metric.device.type != "cpu":  # an older state does not mark the tensor
                metric._data = metric._data.to(metric.device)
        return metric
    if isinstance(value, dict):
        entries = {key: _restored(entry, None, device) for key, entry in value.items()}
        if isinstance(present, dict):  # a defaultdict keeps its factory
            present.clear()
            present.update(entries)
            return present
        return entries
    if isinstance(value, (list, tuple)):
        old = present if isinstance(present, (list, tuple)) and len(present) == len(value) else None
        items = [_restored(v, old[k] if old else None, device) for k, v in enumerate(value)]
        return tuple(items) if isinstance(value, tuple) else items
    return copy.deepcopy(value)  # sets and arrays change in place too


def _name(value: object) -> str:
    return f"{type(value).__module__}:{type(value).__qualname__}"


def _class(name: str) -> type[Any]:
    """Return ParamData or a class of Avalanche's metrics; a file can name no other class."""
    module, _, qualified = name.partition(":")
    if name == f"{ParamData.__module__}:{ParamData.__qualname__}":
        found: type[Any] = ParamData
        return found
    kind: Any = sys.modules.get(module) if module.startswith("avalanche.evaluation.") else None
    for part in qualified.split("."):
        kind = getattr(kind, part, None)
    if not isinstance(kind, type) or kind.__module__ != module:
        raise CheckpointError(f"the checkpoint asks for {name!r}, which is no class of a metric")
    return kind
