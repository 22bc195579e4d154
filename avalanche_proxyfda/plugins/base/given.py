"""The arguments with which a plugin was made, as plain data that a checkpoint can compare."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import is_dataclass
from typing import Any

import torch
from torch import Tensor

WITHOUT_EFFECT = ("cache_bytes", "cache_dir", "chunk_size", "folder")
"""Arguments that decide where and how something is computed, and not what."""
_AS_THEY_ARE = (bool, int, float, str, type(None))


def given_arguments(
    signature: inspect.Signature | None, given: tuple[Any, ...], named: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the arguments of a plugin's constructor by name, as plain data.

    Args:
        signature: all arguments with their defaults; None for a class with other keywords, whose
            positional arguments have no names.
        given: positional arguments.
        named: keyword arguments.

    Returns:
        Numbers, strings and None as they are; lists of these; the kind of any other value.
        ``teacher_cache`` is ``"clean"`` or ``"exact"``, since no other choice changes a value.

    Example:
        >>> import inspect
        >>> from avalanche_proxyfda.plugins.base.given import given_arguments
        >>> def made(weight, *, taps=None, seed=0): ...
        >>> given_arguments(inspect.signature(made), (1.0,), {"taps": ("a", "b")})
        {'weight': 1.0, 'taps': ['a', 'b'], 'seed': 0}
    """
    arguments = dict(named)
    if signature is not None:
        try:
            bound = signature.bind(*given, **named)
        except TypeError:  # the constructor says what is missing
            return {}
        bound.apply_defaults()
        arguments = dict(bound.arguments)
    if "teacher_cache" in arguments and arguments["teacher_cache"] != "clean":
        arguments["teacher_cache"] = "exact"
    return {name: _plain(value) for name, value in arguments.items() if name not in WITHOUT_EFFECT}


def _plain(value: Any) -> Any:
    if isinstance(value, _AS_THEY_ARE):
        return value
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if isinstance(value, (torch.dtype, torch.device)):
        return str(value)
    kind = type(value).__qualname__
    if isinstance(value, Tensor):
        return f"{kind} {list(value.shape)}"
    if is_dataclass(value) and not isinstance(value, type):
        fields = {name: _plain(entry) for name, entry in vars(value).items()}
        return f"{kind} {fields}"
    return kind
