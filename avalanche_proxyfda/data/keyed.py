"""Samples whose random view depends on seed, epoch and sample alone, and batches of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import Dataset, Sampler

from avalanche_proxyfda._checks import check_count
from avalanche_proxyfda._keys import keyed
from avalanche_proxyfda._random import generator


class Stamp(int):
    """The number of a sample, with the epoch that it is drawn for.

    A loader's workers may load two epochs at once, so the epoch travels with the number.

    Attributes:
        epoch: number of the epoch.
    """

    epoch: int

    def __new__(cls, number: int, epoch: int) -> Stamp:
        """Return ``number`` with its epoch."""
        stamp = super().__new__(cls, number)
        stamp.epoch = epoch
        return stamp

    def __reduce__(self) -> tuple[Any, ...]:
        return Stamp, (int(self), self.epoch)


class KeyedSamples(Dataset[Any]):
    """A data set whose views draw from streams keyed by (seed, epoch, sample).

    The views draw by :func:`~avalanche_proxyfda._keys.uniform`. Other random transforms are not
    keyed.

    Args:
        data: the data set.
        seed: seed of the streams.
        first: number of the first sample, if a loader reads several data sets.
    """

    def __init__(self, data: Any, seed: int, first: int = 0) -> None:
        self.data, self.seed, self.first = data, seed, first

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, number: int) -> Any:
        with keyed("sample", self.seed, getattr(number, "epoch", 0), self.first + int(number)):
            return self.data[int(number)]


class ShuffledBatches(Sampler[list[int]]):
    """Shuffled batches of all samples; the order depends on seed and epoch alone.

    Args:
        samples: number of samples.
        batch_size: samples of a batch; the last batch has the rest.
        seed: seed of the orders.

    Raises:
        TypeError, ValueError: for a number below 1.

    Example:
        >>> from avalanche_proxyfda.data.keyed import ShuffledBatches
        >>> batches = ShuffledBatches(5, 2, seed=0)
        >>> len(batches), sorted(sum(batches, []))
        (3, [0, 1, 2, 3, 4])
    """

    def __init__(self, samples: int, batch_size: int, seed: int) -> None:
        self.samples = check_count("samples", samples, 1)
        self.batch_size = check_count("batch_size", batch_size, 1)
        self.seed, self._epoch = seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next iteration."""
        self._epoch = epoch

    def __len__(self) -> int:
        return -(-self.samples // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        order = torch.randperm(
            self.samples, generator=generator("shuffled", self.seed, self._epoch)
        ).tolist()
        for start in range(0, self.samples, self.batch_size):
            yield order[start : start + self.batch_size]
