"""Named random streams, and one snapshot of the process's global random streams."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from avalanche_proxyfda._accelerator import random_state, seed_stream, set_random_state


def mixed_seed(*parts: int | str) -> int:
    """Return a 63-bit seed for ``parts``; it is the same on every machine and version.

    Example:
        >>> mixed_seed("batches", 0, 3)
        3030313398663863326
    """
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(*parts: int | str) -> torch.Generator:
    """Return a new CPU generator for the random stream that ``parts`` name.

    Example:
        >>> first, second = generator("classes", 0), generator("classes", 0)
        >>> bool(torch.rand(1, generator=first) == torch.rand(1, generator=second))
        True
    """
    return torch.Generator().manual_seed(mixed_seed(*parts))


@dataclass(frozen=True, eq=False)
class RandomState:
    """A snapshot of the process's global random streams.

    The streams are Python's, NumPy's legacy stream (random transforms draw from it), torch's
    on the CPU, and torch's on ``device`` if ``device`` is an accelerator.

    Args:
        device: device whose stream belongs to the snapshot.
        streams: states of the streams, in the form of :meth:`state_dict`.
        torch_only: True leaves the streams of Python and NumPy alone.
    """

    device: torch.device
    streams: Mapping[str, Any]
    torch_only: bool = False

    @classmethod
    def capture(cls, device: torch.device, *, torch_only: bool = False) -> RandomState:
        """Take a snapshot of the streams as they are now."""
        streams: dict[str, Any] = {}
        if not torch_only:
            streams["python"] = random.getstate()
            streams["numpy"] = np.random.get_state()  # noqa: NPY002 (transforms draw from it)
        streams["torch"] = torch.get_rng_state()
        streams["device"] = random_state(device)
        return cls(device, streams, torch_only)

    def state_dict(self) -> dict[str, Any]:
        """Return the states by stream: ``python``, ``numpy``, ``torch`` and ``device``.

        ``device`` is None on the CPU. ``python`` and ``numpy`` are absent with ``torch_only``.
        """
        return dict(self.streams)

    def restore(self) -> None:
        """Set the streams to the snapshot; a snapshot of the CPU leaves accelerators alone."""
        if not self.torch_only:
            random.setstate(self.streams["python"])
            np.random.set_state(self.streams["numpy"])  # noqa: NPY002
        torch.set_rng_state(self.streams["torch"].cpu())
        state = self.streams.get("device", self.streams.get("cuda"))  # the older name
        if self.device.type != "cpu" and state is not None:
            set_random_state(state, self.device)

    @contextmanager
    def again(self) -> Iterator[None]:
        """Draw the same numbers again inside the block.

        After the block, the streams continue from where they were before it.
        """
        present = RandomState.capture(self.device, torch_only=self.torch_only)
        self.restore()
        try:
            yield
        finally:
            present.restore()


@contextmanager
def preserved_rng(device: torch.device) -> Iterator[None]:
    """Restore all streams of :class:`RandomState` after the block.

    Example:
        >>> state = torch.get_rng_state()
        >>> with preserved_rng(torch.device("cpu")):
        ...     _ = torch.rand(3)
        >>> torch.equal(torch.get_rng_state(), state)
        True
    """
    state = RandomState.capture(device)
    try:
        yield
    finally:
        state.restore()


@contextmanager
def seeded(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Seed Python's, NumPy's and torch's CPU stream inside the block; restore them after it.

    Args:
        seed: seed of all streams.
        device: an accelerator whose stream is seeded and restored too.
    """
    with OwnStreams(seed, device).drawn():
        yield


class OwnStreams:
    """Random streams of their own, which the process's global streams become for a while.

    A generator enters them for each of its values, and leaves them before it yields: code that
    runs between two values draws from the global streams.

    Args:
        seed: seed of all streams.
        device: an accelerator whose stream is among them; None takes the CPU alone.

    Example:
        >>> import torch
        >>> from avalanche_proxyfda._random import OwnStreams, seeded
        >>> streams, numbers = OwnStreams(1), []
        >>> for _ in range(2):
        ...     with streams.drawn():
        ...         numbers.append(torch.rand(1))
        >>> with seeded(1):
        ...     torch.equal(torch.cat(numbers), torch.cat([torch.rand(1), torch.rand(1)]))
        True
    """

    def __init__(self, seed: int, device: torch.device | None = None) -> None:
        self._seed = seed
        self._device = torch.device("cpu") if device is None else device
        self._state: RandomState | None = None

    @contextmanager
    def drawn(self) -> Iterator[None]:
        """Draw from these streams inside the block, and from the global ones after it."""
        with preserved_rng(self._device):
            if self._state is None:
                self._begin()
            else:
                self._state.restore()
            try:
                yield
            finally:
                self._state = RandomState.capture(self._device)

    def _begin(self) -> None:
        torch.default_generator.manual_seed(self._seed)  # torch.manual_seed also seeds the GPUs
        np.random.seed(self._seed % 2**32)  # noqa: NPY002 (random transforms draw from it)
        random.seed(self._seed)
        seed_stream(self._seed, self._device)
