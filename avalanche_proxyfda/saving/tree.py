"""Nested plain data with tensors, as JSON beside a table of tensors, and back."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

_MARK = "$"  # begins the one key of a JSON object that stands for something else
_SIMPLE = (bool, int, str, type(None))


class UnsavedError(TypeError):
    """A value that is no plain data, so a checkpoint cannot hold it."""


def encode(value: Any, tensors: dict[str, Tensor], path: str = "state") -> Any:
    """``value`` as JSON has it; its tensors go into ``tensors`` under their paths.

    None, bool, int, float (NaN and infinities too), str, bytes, tuples, lists, sets, dicts with
    keys of these, tensors, NumPy arrays and scalars, generators, devices and dtypes of torch.

    Raises:
        UnsavedError: for anything else, naming its place.
    """
    kind = type(value)
    if kind in _SIMPLE:
        return value
    if kind is float:
        return value if math.isfinite(value) else {"$float": repr(value)}
    if isinstance(value, Tensor):
        tensors[path] = value.detach()
        return {"$tensor": path}
    if kind in (list, tuple, set, frozenset):
        # sets have no order of their own, and a checkpoint's bytes should
        entries = sorted(value, key=repr) if kind in (set, frozenset) else value
        made = [encode(entry, tensors, f"{path}.{k}") for k, entry in enumerate(entries)]
        return made if kind is list else {f"${kind.__name__}": made}
    if isinstance(value, Mapping):
        if all(type(key) is str for key in value) and not any(k.startswith(_MARK) for k in value):
            return {key: encode(entry, tensors, f"{path}.{key}") for key, entry in value.items()}
        pairs = [
            [encode(key, tensors, f"{path}.{k}.key"), encode(entry, tensors, f"{path}.{k}")]
            for k, (key, entry) in enumerate(value.items())
        ]
        return {"$dict": pairs}
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        tensors[path] = torch.from_numpy(np.ascontiguousarray(value).view(np.uint8).reshape(-1))
        return {"$array": [path, value.dtype.str, list(value.shape)]}
    if isinstance(value, np.generic) and value.dtype.kind in "biuf":
        return {"$scalar": [value.dtype.str, base64.b64encode(value.tobytes()).decode()]}
    if kind is bytes:
        return {"$bytes": base64.b64encode(value).decode()}
    if isinstance(value, torch.device):
        return {"$device": str(value)}
    if isinstance(value, torch.dtype):
        return {"$dtype": str(value).removeprefix("torch.")}
    raise UnsavedError(f"{path} is a {kind.__module__}.{kind.__qualname__}, which is no plain data")


def decode(made: Any, tensors: Mapping[str, Tensor]) -> Any:
    """What :func:`encode` was given; tensors are those of the table."""
    if isinstance(made, list):
        return [decode(entry, tensors) for entry in made]
    if not isinstance(made, dict):
        return made
    if len(made) != 1 or not (mark := next(iter(made))).startswith(_MARK):
        return {key: decode(entry, tensors) for key, entry in made.items()}
    held = made[mark]
    if mark == "$tensor":
        return tensors[held]
    if mark == "$array":
        name, dtype, shape = held
        return tensors[name].cpu().numpy().view(np.dtype(dtype)).reshape(shape).copy()
    if mark == "$scalar":
        return np.frombuffer(base64.b64decode(held[1]), np.dtype(held[0]))[0]
    if mark == "$dict":
        return {decode(key, tensors): decode(entry, tensors) for key, entry in held}
    if mark == "$dtype":
        return getattr(torch, held)
    simple: dict[str, Callable[[Any], Any]] = {
        "$float": float,
        "$bytes": base64.b64decode,
        "$device": torch.device,
    }
    if mark in simple:
        return simple[mark](held)
    several = {"$tuple": tuple, "$set": set, "$frozenset": frozenset}
    if mark in several:
        return several[mark](decode(entry, tensors) for entry in held)
    raise ValueError(f"{mark} is nothing that this version knows")
