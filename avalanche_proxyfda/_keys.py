"""Random numbers of one sample, keyed by seed, epoch and sample."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

_keys: list[str] = []


@contextmanager
def keyed(*parts: int | str) -> Iterator[None]:
    """Make :func:`uniform` draw from the stream of ``parts`` inside the block.

    Example:
        >>> with keyed("sample", 0, 3):
        ...     first = uniform()()
        >>> with keyed("sample", 0, 3):
        ...     first == uniform()()
        True
    """
    _keys.append(repr(parts))
    try:
        yield
    finally:
        _keys.pop()


def uniform() -> Callable[[], float]:
    """Return a function that draws numbers of [0, 1), 53 bits each.

    Inside of :func:`keyed` the numbers are a hash of the key, so they are the same on every
    machine, whatever was drawn before. Outside, they come from torch's global stream.
    """
    if not _keys:
        return lambda: float(torch.rand((), dtype=torch.float64))
    return _hashed(_keys[-1]).__next__


def _hashed(key: str) -> Iterator[float]:
    block = 0
    while True:
        digest = hashlib.blake2b(f"{key} {block}".encode()).digest()
        for at in range(0, len(digest), 8):
            yield (int.from_bytes(digest[at : at + 8], "little") >> 11) * 2.0**-53
        block += 1
