"""Refuses keys that the schema does not have, before values are checked."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, get_args, get_origin, get_type_hints

from benchmarks.config.complaints import unknown_key
from benchmarks.config.schema import Config

KEYS = tuple(field.name for field in fields(Config))


def check_keys(content: Mapping[str, Any], known: Sequence[str], path: str = "") -> None:
    """Refuse unknown keys of a configuration, at any depth.

    Args:
        content: a configuration, which may have other keys at its top.
        known: names that the top may have.
        path: keys above ``content`` in its file, with a dot at the end, for messages.

    Raises:
        ValueError: names the key and the nearest known one, or the kind and the nearest kind.
    """
    _walk(content, Config, known, path)


def _walk(content: Mapping[str, Any], kind: Any, known: Sequence[str], path: str) -> None:
    hints = _hints(kind)
    for key, value in content.items():
        if key not in known:
            raise ValueError(unknown_key(key, known, path))
        if key in hints and isinstance(value, Mapping):
            inner = _dataclass_of(hints[key], value, f"{path}{key}")
            if inner is not None:
                names = [field.name for field in fields(inner)]
                _walk(value, inner, names, f"{path}{key}.")


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)


def _dataclass_of(annotation: Any, value: Mapping[str, Any], path: str) -> Any:
    """Return the dataclass for ``value``; None if the key holds no dataclass."""
    candidates = _dataclasses(annotation)
    if len(candidates) < 2:
        return candidates[0] if candidates else None
    by_kind = {get_args(_hints(each)["kind"])[0]: each for each in candidates}
    kind = value.get("kind")
    if kind not in by_kind:
        near = difflib.get_close_matches(str(kind), by_kind, n=1)
        raise ValueError(
            f"{path}.kind={kind!r} must be one of {', '.join(by_kind)}"
            + (f"; did you mean {near[0]!r}?" if near else "")
        )
    return by_kind[kind]


def _dataclasses(annotation: Any) -> list[Any]:
    """Return the dataclasses that a field may hold."""
    if is_dataclass(annotation):
        return [annotation]
    if get_origin(annotation) is dict:  # its keys are a user's
        return []
    return [each for part in get_args(annotation) for each in _dataclasses(part)]
