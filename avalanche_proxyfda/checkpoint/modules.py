"""State of a model whose heads may have grown since it was built."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from avalanche.models import DynamicModule
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from avalanche_proxyfda.checkpoint.files import CheckpointError

_PLAIN = (bool, int, float, str)
_OF_FIXED_SIZE = ("torch", "torchvision", "timm", "open_clip", "transformers")
"""Packages whose modules do not grow in training."""


def _is_plain(value: object) -> bool:
    if isinstance(value, (set, frozenset, list, tuple)):
        return all(_is_plain(entry) for entry in value)
    return value is None or type(value) in _PLAIN


def module_state(model: nn.Module) -> dict[str, Any]:
    """Return parameters, all buffers, and the plain attributes of all modules.

    The buffers include those that ``state_dict`` leaves out. The attributes show how far a head
    has grown, and which modules are in training mode.
    """
    parts = {
        name: {
            "class": type(module).__qualname__,
            "attributes": {
                key: value
                for key, value in vars(module).items()
                if key != "_is_full_backward_hook" and _is_plain(value)
            },
        }
        for name, module in model.named_modules()
    }
    parameters = dict(model.named_parameters(remove_duplicate=False))
    return {
        "modules": parts,
        "parameters": {n: p.detach() for n, p in parameters.items()},
        "trained": [n for n, p in parameters.items() if p.requires_grad],
        "buffers": dict(model.named_buffers(remove_duplicate=False)),
    }


@torch.no_grad()
def load_module_state(model: nn.Module, state: Mapping[str, Any]) -> None:
    """Load the state of a model that was built like ``model`` and may have grown since.

    ``state`` may be loaded again. The parameters of ``model`` stay the same objects. A head that
    ``model`` lacks is copied from a head of the same class beside it.

    Args:
        model: the model to change.
        state: the result of :func:`module_state`.

    Raises:
        CheckpointError: if the two models were built differently; ``model`` then stays as it is,
            if a shape differs.
    """
    _check_shapes(model, state["parameters"])
    for name, part in state["modules"].items():
        module = _module(model, name, part["class"])
        for key, value in part["attributes"].items():
            setattr(module, key, copy.deepcopy(value))
    _load(model, "_parameters", state["parameters"])
    _load(model, "_buffers", state["buffers"])
    trained = set(state["trained"])
    for name, parameter in model.named_parameters(remove_duplicate=False):
        parameter.requires_grad_(name in trained)


def _check_shapes(model: nn.Module, saved: Mapping[str, Tensor]) -> None:
    """Raise CheckpointError for a parameter of another shape, except the rows of a growing head."""
    for name, present in model.named_parameters(remove_duplicate=False):
        value = saved.get(name)
        if value is None or is_lazy(present):
            continue
        rows_apart = present.ndim == value.ndim and present.shape[1:] == value.shape[1:]
        if present.shape != value.shape and not (rows_apart and _may_grow(model, name)):
            raise CheckpointError(
                f"the parameter {name!r} has the shape {tuple(value.shape)} in the checkpoint, and "
                f"{tuple(present.shape)} here: build the model as before, or delete the checkpoint "
                "to start again"
            )


def _may_grow(model: nn.Module, name: str) -> bool:
    """Return True if a parameter lies in a module of Avalanche that grows, or in one of a user.

    Modules of torch and of the libraries of backbones do not grow by themselves.
    """
    parts = name.split(".")[:-1]
    above = [model.get_submodule(".".join(parts[: k + 1])) for k in range(len(parts))]
    of_user = any(type(m).__module__.partition(".")[0] not in _OF_FIXED_SIZE for m in above)
    return of_user or any(isinstance(m, DynamicModule) for m in (model, *above))


def _module(model: nn.Module, name: str, kind: str) -> nn.Module:
    """Return the module ``name`` of class ``kind``; add it if ``model`` lacks it."""
    above, _, last = name.rpartition(".")
    try:
        module = model.get_submodule(name)
    except AttributeError:
        parent = model.get_submodule(above)
        alike = [m for m in parent.children() if type(m).__qualname__ == kind]
        if not alike:
            raise CheckpointError(
                f"the checkpoint's model has a module {name!r} ({kind}), which this model lacks"
            ) from None
        module = copy.deepcopy(alike[0])
        parent.add_module(last, module)
    if type(module).__qualname__ != kind:
        raise CheckpointError(
            f"module {name!r} has the class {kind} in the checkpoint, and "
            f"{type(module).__qualname__} here"
        )
    return module


def _load(model: nn.Module, table: str, tensors: Mapping[str, Tensor]) -> None:
    """Load the parameters (``table="_parameters"``) or buffers of all modules."""
    places = {
        f"{name}.{key}".lstrip("."): (module, key)
        for name, module in model.named_modules(remove_duplicate=False)
        for key, value in getattr(module, table).items()
        if value is not None
    }
    absent = sorted(set(places) - set(tensors))
    if absent:
        raise CheckpointError(f"the checkpoint's model lacks {absent[0]!r}, which this model has")
    for name, value in tensors.items():
        above, _, key = name.rpartition(".")
        module, _ = places.get(name, (model.get_submodule(above), key))
        present = getattr(module, table).get(key)
        if present is None:
            if table == "_parameters":
                raise CheckpointError(f"this model lacks the parameter {name!r} of the checkpoint")
            module.register_buffer(key, value.clone())
        else:
            present.data = value.to(present.device, copy=True)
