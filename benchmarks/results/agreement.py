"""Two records of one run: the values that differ, and whether the tolerance covers them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks.results.older import by_word, comparable
from benchmarks.results.record import Record
from benchmarks.results.tolerance import ROUNDING, TOLERANCES

ABSENT = "absent"
"""Stands for a value that one of the records lacks."""
_Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Difference:
    """A value in which two records differ.

    Attributes:
        path: place of the value in the records.
        first: value in the first record.
        second: value in the second record.
        allowed: largest difference on two machines; 0 if the values must be equal.
    """

    path: str
    first: Any
    second: Any
    allowed: float

    @property
    def distance(self) -> float:
        """Absolute difference; infinite if the values are not both numbers."""
        if not (_is_number(self.first) and _is_number(self.second)):
            return math.inf
        return abs(float(self.first) - float(self.second))

    @property
    def within(self) -> bool:
        """True if the tolerance covers the difference."""
        return self.distance <= self.allowed * (1 + ROUNDING)

    @property
    def size(self) -> float:
        """Difference as a multiple of the tolerance."""
        return self.distance / self.allowed if self.allowed else math.inf


def differences(first: Record, second: Record) -> list[Difference]:
    """Return the values that differ between two records of one run, the largest first.

    Args:
        first: a record.
        second: another record of the same run.
    """
    found = [
        Difference(_text(path), one, two, _allowed(path, one, two, first))
        for path, one, two in _pairs(*comparable(first, second))
    ]
    return sorted(found, key=lambda each: (-each.size, -each.distance, each.path))


def agree(first: Record, second: Record) -> bool:
    """Return True if the tolerance covers all values that differ between two records."""
    return all(difference.within for difference in differences(first, second))


def _pairs(first: Any, second: Any, path: _Path = ()) -> Iterator[tuple[_Path, Any, Any]]:
    """Yield path and values where two JSON contents differ."""
    if isinstance(first, dict) and isinstance(second, dict):
        for key in sorted({*first, *second}):
            yield from _pairs(first.get(key, ABSENT), second.get(key, ABSENT), (*path, key))
    elif isinstance(first, list) and isinstance(second, list) and len(first) == len(second):
        for place, (one, two) in enumerate(zip(first, second, strict=True)):
            yield from _pairs(one, two, (*path, place))
    elif first != second:
        yield path, first, second


def _allowed(path: _Path, first: Any, second: Any, record: Record) -> float:
    """Return the tolerance of the value at ``path``; 0 for a value that must be equal."""
    if path[0] != "outcome" or not (_is_number(first) and _is_number(second)):
        return 0.0
    kind, count = _kind(path[1:], record)
    return 0.0 if kind is None else TOLERANCES[kind].allowed(first, second, count)


def _kind(path: _Path, record: Record) -> tuple[str | None, int | None]:
    """Return the kind of a number of the outcome, and the number of its images.

    The kind is None for a number that is no measurement.
    """
    assert record.stream is not None
    assert record.panel is not None
    match path:
        case ("accuracy", _, int(place)):
            return "accuracy", record.stream.test[place]
        case ("validation_learnt" | "validation_last", int(place)):
            counts = record.stream.validation
            return "accuracy", counts[place] if counts else None
        case ("panel", _, "linear_probe" | "zero_shot", split, name):
            data = by_word(record.panel, record.config)[str(name)]
            return "accuracy", data.test if split == "test" else data.validation
        case ("panel", _, "drift", *_):
            return "drift", None
        case ("avalanche_forgetting",):
            return "forgetting", None
        case ("loss_terms", *_):
            return "loss", None
    return None, None


def _text(path: _Path) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)[1:]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
