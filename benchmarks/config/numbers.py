"""Refuses values that pydantic takes as numbers and a run cannot use: true, infinity, NaN."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import is_dataclass
from functools import cache
from typing import Any, get_args, get_type_hints

from pydantic.fields import FieldInfo

MOST_SEED = 2**32 - 1
"""Largest seed that NumPy's legacy stream takes."""


def check_numbers(content: Any, kind: Any, path: str = "") -> Any:
    """Return ``content``, whose numbers are finite, and no true or false.

    Args:
        content: keys and values as a file or a command line gives them.
        kind: dataclass of the content.
        path: keys above ``content``, with a dot at the end.

    Raises:
        ValueError: names the key, the value and the remedy.
    """
    if not isinstance(content, Mapping):
        return content
    for key, value in content.items():
        annotation = _hints(kind).get(key)
        inner = _inner(annotation, value)
        if inner is not None:
            check_numbers(value, inner, f"{path}{key}.")
            continue
        numeric = _is_numeric(annotation)
        for place, each in _values(value, f"{path}{key}"):
            if numeric and isinstance(each, bool):
                raise ValueError(f"{place}={str(each).lower()}: give a number, not true or false")
            if _is_infinite(each, numeric):
                raise ValueError(f"{place}={each}: give a finite number{_about_null(kind, key)}")
    return content


def check_seed(name: str, seed: int) -> None:
    """Refuse a seed that the random streams do not take.

    Args:
        name: key or option that gives the seed, for the message.
        seed: the seed.

    Raises:
        ValueError: names the range.
    """
    if not 0 <= seed <= MOST_SEED:
        raise ValueError(f"{name}={seed}: give a seed from 0 to {MOST_SEED}")


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)


def _inner(annotation: Any, value: Any) -> Any:
    """Return the dataclass for a mapping; None if the key holds no dataclass, or no known one."""
    if not isinstance(value, Mapping):
        return None
    candidates = [each for each in (annotation, *get_args(annotation)) if is_dataclass(each)]
    if len(candidates) < 2:
        return candidates[0] if candidates else None
    kinds = {get_args(_hints(each)["kind"])[0]: each for each in candidates}
    return kinds.get(value.get("kind"))


def _is_numeric(annotation: Any) -> bool:
    """Return True for a type with a number in it, in which nothing may be true or false."""
    types = set(_types(annotation))
    return bool(types & {int, float}) and not types & {bool, Any}


def _types(annotation: Any) -> Iterator[Any]:
    parts = get_args(annotation)
    if not parts:
        yield annotation
    for part in parts:
        yield from _types(part)


def _values(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield the values within lists and mappings, each with its dotted place."""
    if isinstance(value, Mapping):
        for key, each in value.items():
            yield from _values(each, f"{path}.{key}")
    elif isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        for place, each in enumerate(value):
            yield from _values(each, f"{path}.{place}")
    else:
        yield path, value


def _is_infinite(value: Any, numeric: bool) -> bool:
    """Return True for infinity and NaN, and for a text that pydantic reads as one of them."""
    if isinstance(value, str) and numeric:
        try:
            value = float(value)
        except ValueError:
            return False
    return isinstance(value, float) and not math.isfinite(value)


def _about_null(kind: Any, key: str) -> str:
    """Return words on null, for a key whose description says what null means."""
    annotation = get_type_hints(kind, include_extras=True).get(key)
    notes = getattr(annotation, "__metadata__", ())
    about = next((n.description for n in notes if isinstance(n, FieldInfo)), None) or ""
    return f", or null ({about})" if "null: " in about else ""
