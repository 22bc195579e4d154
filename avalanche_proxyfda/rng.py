"""Random streams of our own, and keeping others' as they were."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def mixed_seed(*parts: int | str) -> int:
    """A 63-bit seed from any number of parts; the same on every machine and version."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(*parts: int | str) -> torch.Generator:
    """A CPU generator of its own for the stream that ``parts`` name."""
    return torch.Generator().manual_seed(mixed_seed(*parts))


@contextmanager
def preserved_rng(device: torch.device) -> Iterator[None]:
    """Put back the random streams of torch (CPU and ``device``), NumPy and Python."""
    devices = [device] if device.type == "cuda" else []
    # NumPy's legacy stream is the one that transforms draw from
    python, array = random.getstate(), np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng(devices=devices):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(array)  # noqa: NPY002
