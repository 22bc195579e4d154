"""Compares a record with the record of its repetition."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks.results.record import How


def differences(first: Any, second: Any, path: str = "") -> Iterator[str]:
    """Yield the paths at which two JSON contents differ, with both values.

    Args:
        first: content of the record.
        second: content of the repetition's record.
        path: path of both contents, with a dot before each key.
    """
    if isinstance(first, dict) and isinstance(second, dict):
        for key in sorted({*first, *second}):
            absent = "absent"
            yield from differences(first.get(key, absent), second.get(key, absent), f"{path}.{key}")
    elif isinstance(first, list) and isinstance(second, list) and len(first) == len(second):
        for place, (one, two) in enumerate(zip(first, second, strict=True)):
            yield from differences(one, two, f"{path}[{place}]")
    elif first != second:
        yield f"{path.lstrip('.')}: {first} in the record, {second} now"


def changed_provenance(then: How, now: How) -> list[str]:
    """Differences that may explain other numbers: version of the method, machine, libraries.

    Args:
        then: provenance of the record.
        now: provenance of the repetition.
    """
    pairs = (
        ("version of the method", then.code.version, now.code.version),
        ("processor", then.machine.processor, now.machine.processor),
        ("device", then.machine.device, now.machine.device),
        *((library, v, now.versions.get(library)) for library, v in then.versions.items()),
    )
    return [f"{name}: {one} then, {two} now" for name, one, two in pairs if one != two]
