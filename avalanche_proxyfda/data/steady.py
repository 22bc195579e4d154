"""A loader that lives across epochs: its workers begin the next epoch before this one ends."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader, Sampler

from avalanche_proxyfda.data.keyed import Stamp


def _whole(batches: Any) -> Any:
    """Return the batches of which a rank takes its rows; without ranks, ``batches``."""
    return getattr(batches, "whole", batches)


def _copied(batches: Any) -> Any:
    """Return a copy that has its own epoch and position."""
    copied = copy.copy(batches)
    if _whole(batches) is not batches:
        copied.whole = copy.copy(batches.whole)
    return copied


class _Run(Sampler[list[Stamp]]):
    """The batches of several epochs in a row, stamped with their epoch.

    Args:
        batches: the batches of an epoch; ``set_epoch`` sets the epoch, if there is one.
        crosses: True reads copies of ``batches``, which keep their own epoch and position.
    """

    def __init__(self, batches: Any, crosses: bool) -> None:
        self.batches, self.crosses = batches, crosses
        self.start = self.stop = self.skip = self.offset = 0
        self.left_out: dict[int, int | None] = {}
        self.totals: dict[int, Any] = {}  # rows of the whole batches of an epoch, on ranks

    def __iter__(self) -> Iterator[list[Stamp]]:
        skip, self.skip = self.skip, 0
        for epoch in range(self.start, self.stop):
            batches = _copied(self.batches) if self.crosses else self.batches
            whole = _whole(batches)
            if hasattr(whole, "set_epoch"):
                whole.set_epoch(epoch + self.offset)
            for number, batch in enumerate(batches):
                self.totals[epoch] = getattr(batches, "totals", None)
                if number >= skip:
                    yield [Stamp(sample, epoch) for sample in batch]
            skip = 0
            self.left_out[epoch] = getattr(whole, "left_out", None)


class SteadyLoader(DataLoader[Any]):
    """A DataLoader whose worker processes live until the last epoch of an experience.

    Each iteration is one epoch, as that of every loader. The workers load ahead into the next
    epoch, so no epoch begins with an empty queue. They do not where the next epoch's batches
    depend on this epoch's training (``mining="bank"``), and without workers.

    Samples must not depend on what a worker drew before: their views are keyed, see
    :class:`~avalanche_proxyfda.data.keyed.KeyedSamples`, or have no randomness. The loader can
    therefore begin in the middle of an epoch without loading what comes before.

    Args:
        dataset: the samples; their numbers are :class:`~avalanche_proxyfda.data.keyed.Stamp`.
        batch_sampler: the batches of an epoch.
        arguments: further arguments of DataLoader.
    """

    keyed = True
    """Number of workers and place of a resume do not change a sample."""

    def __init__(self, dataset: Any, batch_sampler: Any, **arguments: Any) -> None:
        arguments.pop("persistent_workers", None)
        workers = int(arguments.get("num_workers") or 0)
        super().__init__(
            dataset, batch_sampler=batch_sampler, persistent_workers=workers > 0, **arguments
        )
        self._running_of: tuple[_Run, DataLoader[Any]] | None = None
        self._batches: Iterator[Any] | None = None
        self._next = self._stop = 0  # the epoch of the next iteration, the end of all epochs
        self._live = -1  # the epoch that the running iterator comes to next
        self._begin = 0

    def rebuilt(self, **arguments: Any) -> SteadyLoader:
        """Return a loader with other arguments and the same epochs."""
        loader = SteadyLoader(**arguments)
        loader.set_epochs(self._next, self._stop)
        return loader

    def set_epochs(self, epoch: int, stop: int) -> None:
        """Set the epoch of the next iteration.

        Args:
            epoch: number of the epoch.
            stop: number of epochs of the experience; nothing is loaded ahead beyond it.
        """
        self._next, self._stop = epoch, max(stop, epoch + 1)

    def begin_at(self, batch: int) -> None:
        """Leave out the first ``batch`` batches of the next iteration, without loading them."""
        self._begin, self._live = batch, -1

    @property
    def crosses(self) -> bool:
        """True if workers load the next epoch before this one ends."""
        sampler = _whole(self.batch_sampler)
        depends = bool(getattr(sampler, "looks_at_samples", False))
        settable = hasattr(sampler, "set_epoch")
        return self.num_workers > 0 and settable and not depends

    def __iter__(self) -> Any:
        return self._epoch()

    def _epoch(self) -> Iterator[Any]:
        epoch = self._next
        sampler: Any = self.batch_sampler
        start = max(self._begin, getattr(sampler, "begins_at", 0))
        run, batches = self._running(epoch, start)
        self._live = -1  # unless the epoch is read to its end
        for _ in range(len(self) - start):
            batch = next(batches)
            if run.crosses and hasattr(sampler, "totals"):
                sampler.totals = run.totals[epoch]  # a copy of the sampler drew the batches
            yield batch
        if run.crosses:
            self._live, whole = epoch + 1, _whole(sampler)
            if hasattr(whole, "left_out"):
                whole.left_out = run.left_out[epoch]
        else:
            next(batches, None)  # the sampler ends its epoch
        self._next = epoch + 1

    def _running(self, epoch: int, start: int) -> tuple[_Run, Iterator[Any]]:
        """Return the iterator that comes to ``epoch``, or begin one at batch ``start``."""
        if self._running_of is None or self._running_of[1].collate_fn is not self.collate_fn:
            run = _Run(self.batch_sampler, self.crosses)
            self._running_of, self._batches, self._live = (run, self._plain(run)), None, -1
        run, loader = self._running_of
        if self._live != epoch or start or self._batches is None:
            sampler: Any = self.batch_sampler
            run.start, run.stop = epoch, self._stop if run.crosses else epoch + 1
            run.skip, run.offset = start, getattr(_whole(sampler), "epoch", epoch) - epoch
            if start and hasattr(sampler, "begin_at"):
                sampler.begin_at(0)
            self._begin = 0
            self._batches = iter(loader)
        return run, self._batches

    def _plain(self, run: _Run) -> DataLoader[Any]:
        return DataLoader(
            self.dataset,
            batch_sampler=run,
            num_workers=self.num_workers,
            collate_fn=self.collate_fn,
            pin_memory=self.pin_memory,
            timeout=self.timeout,
            worker_init_fn=self.worker_init_fn,
            multiprocessing_context=self.multiprocessing_context,
            generator=self.generator,
            prefetch_factor=self.prefetch_factor,
            persistent_workers=self.num_workers > 0,
        )
