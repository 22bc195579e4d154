"""Reads and changes the data sets and the collate function of a training loader."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from avalanche.benchmarks.utils.data_loader import MultiDatasetDataLoader
from torch.utils.data import DataLoader

from avalanche_proxyfda.data.steady import SteadyLoader
from avalanche_proxyfda.distributed.loaders import rebuilt


def datasets_of(loader: Any) -> list[Any] | None:
    """Return the data sets of a loader; None for an unknown kind.

    Known kinds are torch's DataLoader with batches, :class:`SteadyLoader`, and Avalanche's loaders
    over several data sets, such as Replay's.
    """
    if isinstance(loader, MultiDatasetDataLoader):
        return list(loader.datasets)
    if type(loader) in (DataLoader, SteadyLoader) and loader.batch_sampler is not None:
        return [loader.dataset]
    return None


def with_datasets(loader: Any, change: Callable[[Any, int], Any]) -> Any:
    """Return the loader over changed data sets; call it before the loader is iterated.

    The loader draws the same batches from the same random streams.

    Args:
        loader: a loader of a kind that :func:`datasets_of` knows.
        change: returns a data set of the same length. It takes a data set and the number of
            its first sample among the samples of all data sets.
    """
    first, changed = 0, []
    for data in datasets_of(loader) or []:
        changed.append(change(data, first))
        first += len(data)
    if isinstance(loader, MultiDatasetDataLoader):
        loader.datasets = changed
        return loader
    (data,) = changed
    return rebuilt(loader, dataset=data)
