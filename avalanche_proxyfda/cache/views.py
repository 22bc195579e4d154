"""Views that come again: random transforms as functions of sample and epoch alone."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from avalanche_proxyfda.rng import mixed_seed, preserved_rng


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Torch's (CPU), NumPy's and Python's streams begin at ``seed``; put back afterwards."""
    with preserved_rng(torch.device("cpu")):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would reach the GPU's too
        np.random.seed(seed % 2**32)  # noqa: NPY002 (the stream that transforms draw from)
        random.seed(seed)
        yield


class ReplayedViews(Dataset[Any]):
    """A data set whose random transforms give ``views`` views of each sample, in turn.

    The view of an epoch is a function of seed, epoch modulo ``views`` and sample: worker
    processes and what was drawn before change nothing.

    Args:
        data: the data set.
        views: how many different views of a sample there are.
        seed: of the views.
        first: number of its first sample, where it is one data set of several.
    """

    def __init__(self, data: Any, views: int, seed: int, first: int = 0) -> None:
        self.data, self.views, self.seed, self.first = data, views, seed, first
        self._epoch = torch.zeros((), dtype=torch.int64)
        self._epoch.share_memory_()  # type: ignore[no-untyped-call]  # workers see it change

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; before its loader is iterated."""
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, number: int) -> Any:
        view, sample = int(self._epoch) % self.views, self.first + int(number)
        with seeded(mixed_seed("view", self.seed, view, sample)):
            return self.data[number]


@dataclass(frozen=True)
class NumberedItem:
    """An item and its place in the data."""

    number: int
    item: Any


class NumberedItems(Dataset[Any]):
    """A data set that tells the place of each item, from ``first`` on."""

    def __init__(self, data: Any, first: int) -> None:
        self.data, self.first = data, first

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, number: int) -> NumberedItem:
        return NumberedItem(self.first + int(number), self.data[number])
