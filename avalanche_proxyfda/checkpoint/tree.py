"""Nested plain data with tensors, as JSON beside a table of tensors, and back."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

_MARK = "$"  # first character of the only key of a JSON object that encodes another type
_SIMPLE = (bool, int, str, type(None))


class UnsavedError(TypeError):
    """A value is no plain data, so a checkpoint cannot hold it."""


def encode(
    value: Any,
    tensors: dict[str, Tensor],
    path: str = "state",
    places: dict[tuple[Any, ...], str] | None = None,
) -> Any:
    """Return ``value`` as JSON data, and put its tensors into ``tensors`` under their paths.

    A tensor that several owners share is put into ``tensors`` once. A dense tensor whose axes
    have another order in memory, such as channels last, is put there as a row [N] of its memory.

    Plain data are None, bool, int, float (also NaN and infinities), str, bytes, tuples, lists,
    sets, dicts with keys of these, tensors, NumPy arrays and scalars, and torch's devices and
    dtypes.

    Args:
        value: plain data.
        tensors: receives the tensors by path.
        path: path of ``value``, for messages and the names of tensors.
        places: paths of the tensors of one state by memory; callers leave it out.

    Raises:
        UnsavedError: naming the path of a value that is no plain data.
    """
    places = {} if places is None else places
    kind = type(value)
    if kind in _SIMPLE:
        return value
    if kind is float:
        return value if math.isfinite(value) else {"$float": repr(value)}
    if isinstance(value, Tensor):
        tensor = value.detach()
        if tensor.layout is torch.strided and tensor.numel() > 0:
            first = places.setdefault(_view(tensor), path)
        else:
            first = path
        if not _has_own_order(tensor):
            tensors.setdefault(first, tensor)
            return {"$tensor": first}
        tensors.setdefault(first, tensor.as_strided((tensor.numel(),), (1,)))
        return {"$strided": [first, list(tensor.shape), list(tensor.stride())]}
    if kind in (list, tuple, set, frozenset):
        # sets are sorted, so that equal states give equal bytes
        entries = sorted(value, key=repr) if kind in (set, frozenset) else value
        items = [encode(entry, tensors, f"{path}.{k}", places) for k, entry in enumerate(entries)]
        return items if kind is list else {f"${kind.__name__}": items}
    if isinstance(value, Mapping):
        if all(type(key) is str for key in value) and not any(k.startswith(_MARK) for k in value):
            return {k: encode(entry, tensors, f"{path}.{k}", places) for k, entry in value.items()}
        pairs = [
            [
                encode(key, tensors, f"{path}.{k}.key", places),
                encode(entry, tensors, f"{path}.{k}", places),
            ]
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


def _has_own_order(tensor: Tensor) -> bool:
    """Return True for a tensor that fills its memory, in another order than a contiguous one.

    Axes of length 1 count too, since torch reads the order of channels from their strides.
    """
    if tensor.layout is not torch.strided or tensor.is_neg() or tensor.is_conj():
        return False
    plain = torch.empty(tensor.shape, device="meta").stride()
    axes = sorted(zip(tensor.stride(), tensor.shape, strict=True))
    width = 1
    for stride, length in axes:
        if length > 1 and stride != width:
            return False  # it has gaps, or elements that share a place
        width *= length
    return tensor.numel() > 0 and tensor.stride() != plain


def _view(tensor: Tensor) -> tuple[Any, ...]:
    """Return what two tensors of equal bits in the same memory have in common."""
    kind = (tensor.dtype, tensor.device, tensor.is_neg(), tensor.is_conj())
    return (tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), *kind)


def decode(data: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Return the value that :func:`encode` encoded.

    Args:
        data: the result of :func:`encode`.
        tensors: the tensors by path; the value holds these very tensors, and a copy for each
            further owner of a shared tensor.

    Raises:
        ValueError: for data that :func:`encode` does not write.
    """
    return _decoded(data, tensors, set())


def _decoded(data: Any, tensors: Mapping[str, Tensor], given: set[str]) -> Any:
    if isinstance(data, list):
        return [_decoded(entry, tensors, given) for entry in data]
    if not isinstance(data, dict):
        return data
    if len(data) != 1 or not (mark := next(iter(data))).startswith(_MARK):
        return {key: _decoded(entry, tensors, given) for key, entry in data.items()}
    content = data[mark]
    if mark == "$tensor":
        again = content in given
        given.add(content)
        return tensors[content].clone() if again else tensors[content]
    if mark == "$strided":
        name, shape, strides = content
        memory = _decoded({"$tensor": name}, tensors, given)
        try:
            return memory.as_strided(shape, strides)
        except RuntimeError as error:
            raise ValueError(f"the tensor {name!r} does not fit its memory: {error}") from error
    if mark == "$array":
        name, dtype, shape = content
        return tensors[name].cpu().numpy().view(np.dtype(dtype)).reshape(shape).copy()
    if mark == "$scalar":
        return np.frombuffer(base64.b64decode(content[1]), np.dtype(content[0]))[0]
    if mark == "$dict":
        return {
            _decoded(key, tensors, given): _decoded(entry, tensors, given) for key, entry in content
        }
    if mark == "$dtype":
        return getattr(torch, content)
    simple: dict[str, Callable[[Any], Any]] = {
        "$float": float,
        "$bytes": base64.b64decode,
        "$device": torch.device,
    }
    if mark in simple:
        return simple[mark](content)
    several = {"$tuple": tuple, "$set": set, "$frozenset": frozenset}
    if mark in several:
        return several[mark](_decoded(entry, tensors, given) for entry in content)
    raise ValueError(f"the mark {mark!r} is unknown to this version")
