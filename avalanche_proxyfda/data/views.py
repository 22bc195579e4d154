"""Replayed views: the random transform of a sample depends on sample and epoch alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import Dataset

from avalanche_proxyfda._checks import named_kind
from avalanche_proxyfda._protocols import Strategy
from avalanche_proxyfda._random import mixed_seed, seeded
from avalanche_proxyfda.data.keyed import KeyedSamples
from avalanche_proxyfda.data.loaders import datasets_of, with_datasets


class ReplayedViews(Dataset[Any]):
    """A data set whose random transforms give ``views`` views of each sample, in turn.

    The view is a function of the seed, the epoch modulo ``views`` and the sample. Worker
    processes and earlier random numbers do not change it.

    Args:
        data: the data set.
        views: number of different views of a sample.
        seed: seed of the views' random streams.
        first: number of the first sample, if a loader reads several data sets.
    """

    def __init__(self, data: Any, views: int, seed: int, first: int = 0) -> None:
        self.data, self.views, self.seed, self.first = data, views, seed, first
        self._epoch = torch.zeros((), dtype=torch.int64)
        self._epoch.share_memory_()  # type: ignore[no-untyped-call]  # workers see it change

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch; call it before the loader is iterated."""
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, number: int) -> Any:
        epoch = int(getattr(number, "epoch", self._epoch))  # of a loader that loads ahead
        view, sample = epoch % self.views, self.first + int(number)
        with seeded(mixed_seed("view", self.seed, view, sample)):
            return self.data[int(number)]


@dataclass(frozen=True)
class NumberedItem:
    """An item and its number in the data."""

    number: int
    item: Any


class NumberedItems(Dataset[Any]):
    """A data set that returns :class:`NumberedItem`, counted from ``first``."""

    def __init__(self, data: Any, first: int) -> None:
        self.data, self.first = data, first

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, number: int) -> NumberedItem:
        return NumberedItem(self.first + int(number), self.data[number])


# ---- batches ----------------------------------------------------------------------------


def replay_views(strategy: Strategy, views: int, seed: int, epoch: int) -> None:
    """Make the strategy's loader give ``views`` views of each sample, in turn.

    Args:
        strategy: an Avalanche strategy in training.
        views: random views of a sample; view number ``epoch`` modulo ``views`` is next.
        seed: seed of the views' random streams.
        epoch: number of the epoch in the experience.

    Raises:
        ValueError: for a loader whose data cannot be reached.
    """
    datasets = datasets_of(strategy.dataloader)
    if datasets is None:
        raise ValueError(
            f"cache_views={views} cannot reach into {named_kind(strategy.dataloader)}: leave "
            "it out, or train with a DataLoader of torch or Avalanche"
        )
    datasets = [d.data if isinstance(d, NumberedItems) else d for d in datasets]
    if not isinstance(datasets[0], ReplayedViews):
        stream_seed = mixed_seed("experience", seed, strategy.clock.train_exp_counter)

        def wrap(data: Any, first: int) -> Any:
            inner = data.data if isinstance(data, KeyedSamples) else data  # its views never repeat
            return ReplayedViews(inner, views, stream_seed, first)

        strategy.dataloader = with_datasets(strategy.dataloader, wrap)
        datasets = datasets_of(strategy.dataloader) or []
    for data in datasets:
        data.set_epoch(epoch)
