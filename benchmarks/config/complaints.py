"""Errors of a configuration, each in one line: bad values, and keys that do not exist."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

from pydantic import ValidationError

from benchmarks.config.streams import KINDS

_TYPE = re.compile(r"(?:str|int|float|bool|constrained-\w+|(?:tuple|dict|list)\[.*\])")
"""How pydantic's location names a type that a value may have."""


def complaint(error: ValidationError) -> str:
    """Return the first three errors of a validation in one line."""
    parts = []
    for problem in error.errors()[:3]:
        # pydantic's location contains the kind of the stream, and the types that a key may have
        parts_of_place = [str(x) for x in problem["loc"] if x not in KINDS]
        place = ".".join(x for x in parts_of_place if not _TYPE.fullmatch(x))
        message = problem["msg"].removeprefix("Value error, ")
        value = problem["input"]
        simple = isinstance(value, (str, int, float, bool)) or value is None
        parts.append(
            f"{place}={value!r}: {message}" if place and simple else f"{place} {message}".strip()
        )
    return "; ".join(parts)


def unknown_key(key: object, known: Iterable[str], path: str = "") -> str:
    """Return the message that ``key`` is none of ``known``, with the nearest of them.

    Args:
        key: the key in the file.
        known: keys of the same level.
        path: the outer keys, with a dot at the end, such as ``"train."``.
    """
    names = list(known)
    near = difflib.get_close_matches(str(key), names, n=1)
    hint = f"did you mean {path + near[0]!r}?" if near else f"known: {', '.join(names)}"
    return f"{path + str(key)!r} is not a key; {hint}"
