"""Loaders of one rank: its rows of the batches that a single process draws."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from avalanche.benchmarks.utils.data_loader import GroupBalancedDataLoader, MultiDatasetDataLoader
from torch import distributed
from torch.utils.data import DataLoader, DistributedSampler, Sampler

from avalanche_proxyfda._checks import named_kind
from avalanche_proxyfda.distributed.ranks import active, leave_shared_streams

_ARGUMENTS = (
    "dataset",
    "batch_sampler",
    "collate_fn",
    "num_workers",
    "pin_memory",
    "timeout",
    "generator",
    "worker_init_fn",
    "multiprocessing_context",
    "prefetch_factor",
    "persistent_workers",
)
"""Arguments of a DataLoader with a batch sampler that are attributes of the loader too."""


class RankSlices(Sampler[list[int]]):
    """The rows of one rank in every batch.

    A rank without rows gets the last row of the batch, which has weight 0.

    Args:
        whole: batches of indices; every rank must draw the same.
        rank: number of this rank.
        world: number of ranks.

    Attributes:
        totals: number of rows of each whole batch in the current epoch.
    """

    def __init__(self, whole: Any, rank: int, world: int) -> None:
        self.whole, self.rank, self.world = whole, rank, world
        self.totals: list[int] = []

    def __len__(self) -> int:
        return len(self.whole)

    def __iter__(self) -> Iterator[list[int]]:
        batches = [
            list(batch) for batch in self.whole
        ]  # drawn before the ranks' random streams differ
        self.totals = [len(batch) for batch in batches]
        for batch in batches:
            yield batch[self.rank :: self.world] or batch[-1:]


@dataclass(frozen=True)
class _WorkerStreams:
    """Gives a loader's workers random streams of their rank; rank 0 keeps the shared streams."""

    rank: int
    then: Callable[[int], None] | None

    def __call__(self, worker: int) -> None:
        leave_shared_streams(self.rank)
        if self.then is not None:
            self.then(worker)


def rebuilt(loader: DataLoader[Any], **changes: Any) -> DataLoader[Any]:
    """Return a new loader with the arguments of ``loader`` apart from ``changes``.

    A loader of another class has a method ``rebuilt``, which takes the arguments.

    Args:
        loader: a loader with a batch sampler.
        changes: arguments of DataLoader that differ, such as ``dataset``.
    """
    arguments = {name: getattr(loader, name) for name in _ARGUMENTS}
    build: Callable[..., DataLoader[Any]] = getattr(loader, "rebuilt", DataLoader)
    return build(**{**arguments, **changes})


def sliced(loader: DataLoader[Any]) -> DataLoader[Any]:
    """Return a loader of this rank's rows of every batch; outside of a group, ``loader``.

    Raises:
        ValueError: for a loader without batches of indices, or with a DistributedSampler.
    """
    if not active() or isinstance(loader.batch_sampler, RankSlices):
        return loader
    if loader.batch_sampler is None or isinstance(loader.sampler, DistributedSampler):
        raise ValueError(
            "the training loader must draw the batches of a single process, of which each rank "
            "takes its rows: give it a map-style data set, a batch size, and no DistributedSampler"
        )
    rank, world = distributed.get_rank(), distributed.get_world_size()
    return rebuilt(
        loader,
        batch_sampler=RankSlices(loader.batch_sampler, rank, world),
        worker_init_fn=_WorkerStreams(rank, loader.worker_init_fn),
    )


def whole_batches(loader: Any) -> Any:
    """Return the batch sampler that a loader had before :func:`sliced`; None without one."""
    batches = getattr(loader, "batch_sampler", None)
    return batches.whole if isinstance(batches, RankSlices) else batches


def unshard(loader: Any) -> None:
    """Make a loader of Avalanche draw the batches of a single process.

    Raises:
        ValueError: for a loader that never ends.
    """
    if isinstance(loader, MultiDatasetDataLoader) and loader.distributed_sampling:
        if loader.never_ending:
            raise ValueError(
                "a loader that never ends cannot be spread over ranks: give it a length"
            )
        # -1 makes a balanced loader end with its longest part; a replay loader ends with new data
        longest = isinstance(loader, GroupBalancedDataLoader)
        MultiDatasetDataLoader.__init__(
            loader,
            loader.datasets,
            loader.batch_sizes,
            distributed_sampling=False,
            termination_dataset=-1 if longest else loader.termination_dataset,
            oversample_small_datasets=loader.oversample_small_datasets,
            **loader.loader_kwargs,
        )


def own_rows(loader: Any) -> DataLoader[Any]:
    """Return a loader of this rank's rows of a strategy's loader.

    Raises:
        ValueError: for a loader that cannot be spread over ranks.
    """
    unshard(loader)
    if isinstance(loader, MultiDatasetDataLoader):
        loader = loader._get_loader()  # the torch loader that Avalanche makes for each epoch
    if not isinstance(loader, DataLoader):
        raise ValueError(
            f"strategy.dataloader is {named_kind(loader)}, which cannot be spread over ranks: "
            "use a torch.utils.data.DataLoader"
        )
    return sliced(loader)
