"""Loaders of a rank: its rows of the batches that a single process would draw."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from avalanche.benchmarks.utils.data_loader import GroupBalancedDataLoader, MultiDatasetDataLoader
from torch import distributed
from torch.utils.data import DataLoader, DistributedSampler, Sampler

from avalanche_proxyfda.distributed.ranks import active, leave_shared_streams


class RankSlices(Sampler[list[int]]):
    """Each batch's rows of one rank.

    A rank that would get none gets the batch's last one, which then counts for nothing.

    Args:
        whole: batches of indices; every rank must draw the same.
        rank, world: see :class:`Shard`.

    Attributes:
        totals: rows of each whole batch of the epoch that is being read.
    """

    def __init__(self, whole: Any, rank: int, world: int) -> None:
        self.whole, self.rank, self.world = whole, rank, world
        self.totals: list[int] = []

    def __len__(self) -> int:
        return len(self.whole)

    def __iter__(self) -> Iterator[list[int]]:
        batches = [list(batch) for batch in self.whole]  # drawn before ranks draw on their own
        self.totals = [len(batch) for batch in batches]
        for batch in batches:
            yield batch[self.rank :: self.world] or batch[-1:]


@dataclass(frozen=True)
class _WorkerStreams:
    """Gives a loader's worker processes random streams of their rank; rank 0 keeps its own."""

    rank: int
    then: Callable[[int], None] | None

    def __call__(self, worker: int) -> None:
        leave_shared_streams(self.rank)
        if self.then is not None:
            self.then(worker)


def sliced(loader: DataLoader[Any]) -> DataLoader[Any]:
    """A loader of this rank's rows of ``loader``'s batches; itself outside of a group.

    Raises:
        ValueError: for a loader that has no batches of indices, or only a rank's own.
    """
    if not active() or isinstance(loader.batch_sampler, RankSlices):
        return loader
    if loader.batch_sampler is None or isinstance(loader.sampler, DistributedSampler):
        raise ValueError(
            "the training loader must draw the batches of a single process, of which each rank "
            "takes its rows: give it a map-style data set, a batch size, and no DistributedSampler"
        )
    rank, world = distributed.get_rank(), distributed.get_world_size()
    return DataLoader(
        loader.dataset,
        batch_sampler=RankSlices(loader.batch_sampler, rank, world),
        collate_fn=loader.collate_fn, num_workers=loader.num_workers,
        pin_memory=loader.pin_memory, timeout=loader.timeout, generator=loader.generator,
        worker_init_fn=_WorkerStreams(rank, loader.worker_init_fn),
        multiprocessing_context=loader.multiprocessing_context,
        prefetch_factor=loader.prefetch_factor, persistent_workers=loader.persistent_workers,
    )  # fmt: skip


def whole_batches(loader: Any) -> Any:
    """The batch sampler of a loader, before :func:`sliced`; None if it has none."""
    batches = getattr(loader, "batch_sampler", None)
    return batches.whole if isinstance(batches, RankSlices) else batches


def unshard(loader: Any) -> None:
    """Make one of Avalanche's loaders draw the batches of a single process."""
    if isinstance(loader, MultiDatasetDataLoader) and loader.distributed_sampling:
        if loader.never_ending:
            raise ValueError("a loader that never ends cannot be spread over ranks")
        # balanced loaders end with their longest part, counted anew; replay's with the new data
        longest = isinstance(loader, GroupBalancedDataLoader)
        MultiDatasetDataLoader.__init__(
            loader, loader.datasets, loader.batch_sizes, distributed_sampling=False,
            termination_dataset=-1 if longest else loader.termination_dataset,
            oversample_small_datasets=loader.oversample_small_datasets, **loader.loader_kwargs,
        )  # fmt: skip


def own_rows(loader: Any) -> DataLoader[Any]:
    """This rank's part of a strategy's loader.

    Raises:
        ValueError: when it cannot be spread over ranks.
    """
    unshard(loader)
    if isinstance(loader, MultiDatasetDataLoader):
        loader = loader._get_loader()  # the torch loader that it reads; made anew each epoch
    if not isinstance(loader, DataLoader):
        raise ValueError(
            f"strategy.dataloader is a {type(loader).__name__}, which cannot be spread over ranks: "
            "use a torch.utils.data.DataLoader"
        )
    return sliced(loader)
