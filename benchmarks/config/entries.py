"""The mapping ``methods`` of a recipe: a stream's changes to the registry's methods."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.config.known_keys import KEYS, check_keys
from benchmarks.config.overrides import merged
from benchmarks.methods.registry import METHODS, check_method

PATHS = ("coarse", "grid")
"""Keys that a method has in a recipe and not in a configuration: strengths of its paths."""
_KNOWN = tuple(key for key in (*KEYS, *PATHS) if key not in ("method", "stream"))


def check_entries(methods: Any) -> dict[str, Mapping[str, Any]]:
    """Return the entries of ``methods`` by method; an entry without content is empty.

    Args:
        methods: value of the key in the file; None without one.

    Raises:
        ValueError: if ``methods`` or an entry is no mapping, a method is unknown, or a key of
            an entry does not exist; names the nearest key.
    """
    if methods is None:
        return {}
    if not isinstance(methods, Mapping):
        raise ValueError(
            f"methods={methods!r} must be a list of methods to compare, or map each method to "
            "what differs from the registry; with such a map, compare is the list"
        )
    entries = {}
    for method, entry in methods.items():
        check_method(str(method))
        if entry is not None and not isinstance(entry, Mapping):
            raise ValueError(f"methods.{method}={entry!r} must hold keys and values, or nothing")
        entries[method] = entry or {}
        check_keys(entries[method], _KNOWN, f"methods.{method}.")
    return entries


def usual(method: str, entries: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the registry's keys of ``method``, overridden by the recipe's entry.

    Raises:
        ValueError: if the method is unknown.
    """
    known = METHODS[check_method(str(method))]
    keys = {"method": method, **known.settings}
    if known.knob is not None:
        keys |= {"strength": known.strength, "grid": list(known.grid)}
    return merged(keys, entries.get(method, {}))
