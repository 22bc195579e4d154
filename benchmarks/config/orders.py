"""Orders in which a stream learns its data sets: by name, rotated, or listed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

CYCLIC = "cyclic-"
Order = str | tuple[str, ...] | None
"""A name such as ``"I"`` or ``"cyclic-2"``, a list of the sets, or None for the sets as given."""


def ordered(
    sets: Sequence[str], order: Order, named: Mapping[str, Sequence[str]] | None = None
) -> tuple[str, ...]:
    """Return the data sets of a stream in the order of learning.

    ``cyclic-K`` begins with set K, counted from 0, and goes on with the set after it; the sets
    before set K come last (the orders of Yu et al., ECCV 2024).

    Args:
        sets: data sets as the stream lists them.
        order: the order.
        named: orders that have names, such as ``"I"``.

    Raises:
        ValueError: if the order is unknown, or is no permutation of the sets; names the missing
            and the repeated ones.

    >>> ordered(["a", "b", "c"], "cyclic-1")
    ('b', 'c', 'a')
    """
    if order is None:
        return tuple(sets)
    if not isinstance(order, str):
        return _permuted(sets, order, f"order={list(order)}")
    named = named or {}
    if order in named:
        return _permuted(sets, named[order], f"order={order!r}, {list(named[order])},")
    start = order.removeprefix(CYCLIC)
    if start != order and start.isdecimal() and int(start) < len(sets):
        return (*sets[int(start) :], *sets[: int(start)])
    known = [*named, f"{CYCLIC}0 to {CYCLIC}{len(sets) - 1}"]
    raise ValueError(
        f"order={order!r} is unknown; choose one of {', '.join(known)}, or list the sets"
    )


def _permuted(sets: Sequence[str], order: Sequence[str], what: str) -> tuple[str, ...]:
    asked, there = Counter(order), Counter(sets)
    beyond = asked - there
    parts = {
        "missing": sorted(there - asked),
        "repeated": sorted(name for name in beyond if name in there),
        "unknown": sorted(name for name in beyond if name not in there),
    }
    faults = [f"{word}: {', '.join(names)}" for word, names in parts.items() if names]
    if faults:
        raise ValueError(
            f"{what} is no permutation of sets={list(sets)}; {'; '.join(faults)}: list each set "
            "once"
        )
    return tuple(order)
