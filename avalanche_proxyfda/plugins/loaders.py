"""Reaching into a training loader: its data sets, and how it makes batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from avalanche.benchmarks.utils.data_loader import MultiDatasetDataLoader
from torch.utils.data import DataLoader

from avalanche_proxyfda.cache.batch import Marking


def datasets_of(loader: Any) -> list[Any] | None:
    """The data sets that a loader draws from; None for a kind that is not known.

    Known are torch's own DataLoader, with batches, and Avalanche's over several data sets,
    Replay's among them.
    """
    if isinstance(loader, MultiDatasetDataLoader):
        return list(loader.datasets)
    if type(loader) is DataLoader and loader.batch_sampler is not None:
        return [loader.dataset]
    return None


def with_datasets(loader: Any, change: Callable[[Any, int], Any]) -> Any:
    """The loader over changed data sets, which must keep their lengths; before it is iterated.

    Batches are drawn as before, from the same random streams.

    Args:
        loader: of a kind that :func:`datasets_of` knows.
        change: makes a data set of a data set and its first sample's place among all.
    """
    first, made = 0, []
    for data in datasets_of(loader) or []:
        made.append(change(data, first))
        first += len(data)
    if isinstance(loader, MultiDatasetDataLoader):
        loader.datasets = made
        return loader
    (data,) = made
    return DataLoader(
        data, batch_sampler=loader.batch_sampler, num_workers=loader.num_workers,
        collate_fn=loader.collate_fn, pin_memory=loader.pin_memory, timeout=loader.timeout,
        worker_init_fn=loader.worker_init_fn, prefetch_factor=loader.prefetch_factor,
        multiprocessing_context=loader.multiprocessing_context, generator=loader.generator,
        persistent_workers=loader.persistent_workers,
    )  # fmt: skip


def mark(loader: Any, verify: bool) -> None:
    """Have the loader name the samples of its batches, see :class:`Marking`; once is enough."""
    if isinstance(loader, MultiDatasetDataLoader):
        present = loader.loader_kwargs["collate_fn"]
        if not isinstance(present, Marking):
            loader.loader_kwargs["collate_fn"] = Marking(present, verify)
    elif datasets_of(loader) is not None and not isinstance(loader.collate_fn, Marking):
        loader.collate_fn = Marking(loader.collate_fn, verify)
