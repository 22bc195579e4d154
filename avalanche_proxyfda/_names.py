"""Near names of an unknown name, for messages."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(word: object, known: Iterable[str], count: int = 3, cutoff: float = 0.6) -> list[str]:
    """The names of ``known`` that are most like ``word``, the nearest first; capitals do not count.

    Args:
        word: the unknown name.
        known: the known names.
        count: largest number of names.
        cutoff: least likeness, from 0 to 1.

    >>> nearest("cifar10", ["MNIST", "CIFAR100", "CIFAR10"])
    ['CIFAR10', 'CIFAR100']
    """
    plain: dict[str, str] = {}
    for name in known:
        plain.setdefault(name.casefold(), name)
    found = difflib.get_close_matches(str(word).casefold(), plain, count, cutoff)
    return [plain[name] for name in found]
