"""Groups of items that share a key with another item of the group."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

T = TypeVar("T")


def joined(items: Sequence[T], keys_of: Callable[[T], Iterable[str]]) -> list[list[T]]:
    """Return the items in groups, in the order of first items.

    Two items are in one group if they share a key, or if a chain of items joins them.

    Args:
        items: items in any order; a group keeps their order.
        keys_of: the keys of an item, at least one.

    >>> joined(["ab", "cd", "bc", "x"], list)
    [['ab', 'cd', 'bc'], ['x']]
    """
    groups: list[tuple[set[str], list[int]]] = []
    for number, item in enumerate(items):
        keys, members = set(keys_of(item)), [number]
        apart = []
        for group in groups:
            if group[0] & keys:
                keys |= group[0]
                members += group[1]
            else:
                apart.append(group)
        groups = [*apart, (keys, members)]
    ordered = sorted(sorted(members) for _, members in groups)
    return [[items[number] for number in members] for members in ordered]
