"""Batches that carry the names of their samples from the loader to the teacher."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from avalanche.benchmarks.utils.data_loader import MultiDatasetDataLoader
from avalanche.models.utils import avalanche_forward
from torch import Tensor, nn

from avalanche_proxyfda.data.loaders import datasets_of
from avalanche_proxyfda.data.views import NumberedItem
from avalanche_proxyfda.distributed.ranks import Shard
from avalanche_proxyfda.pixels.batch import PixelBatch
from avalanche_proxyfda.teacher.cache.names import LENGTH, checksums, pixel_names, sample_name
from avalanche_proxyfda.teacher.cache.store import index_of
from avalanche_proxyfda.teacher.teacher import Forward

Collate = Callable[[list[Any]], Any]


class MarkedBatch(list[Any]):
    """A mini-batch with a name for each sample; workers, pinning and devices keep the names.

    Avalanche moves the entries of a list in place, so the names stay beside their images. The
    batch drops the names when something changes the images in place, or replaces them by
    anything other than their copy in pinned memory or on another device. The images of a
    :class:`~avalanche_proxyfda.pixels.batch.PixelBatch` count as its copy.

    Args:
        entries: the mini-batch, images first.
        names: a name for each sample; None if the names are unknown.
        sums: checksums [B] of the named images, see ``names.checksums``; None if the images
            stay on the CPU.
    """

    def __init__(
        self,
        entries: Iterable[Any] = (),
        names: list[bytes] | None = None,
        sums: Tensor | None = None,
    ) -> None:
        super().__init__(entries)
        self.names = names
        self.sums = sums
        self._version: int | None = None  # version of the images when they were set

    def __setitem__(self, place: Any, value: Any) -> None:
        if place == 0:
            if isinstance(self[0], PixelBatch) and self[0].made(value):
                # the floats first exist on the device, so their sums begin there
                self.sums = None if value.device.type == "cpu" else checksums(value)
            elif not _is_copy_elsewhere(self[0], value):
                self.names = None
            self._version = getattr(value, "_version", None)
        super().__setitem__(place, value)

    def pin_memory(self) -> MarkedBatch:
        """Return the batch in pinned memory."""
        entries = (e.pin_memory() if isinstance(e, (Tensor, PixelBatch)) else e for e in self)
        sums = None if self.sums is None else self.sums.pin_memory()
        return MarkedBatch(entries, self.names, sums)

    def copy(self) -> MarkedBatch:
        """Return a batch of the same entries and names, for a reader that moves the entries."""
        twin = MarkedBatch(self, self.names, self.sums)
        twin._version = self._version
        return twin

    def chosen(self, entries: list[Tensor], rows: list[int], shard: Shard | None) -> list[Any]:
        """Return a batch of some rows of this one, with their names if those are known.

        Args:
            entries: the rows of each entry.
            rows: numbers of the rows; with ``shard``, numbers in the whole batch of all ranks.
            shard: this rank's part of the batch; None for a single process.
        """
        names, sums = self.names_of(self[0]), self.sums
        if shard is not None:
            names = _joined(names, shard)
            sums = None if sums is None else shard.join(sums)
        if names is None:
            return entries
        if sums is not None:
            # moved first, while the sums are in pinned memory
            device = entries[0].device
            sums = sums.to(device, non_blocking=True).index_select(0, index_of(rows, device))
        marked = MarkedBatch(entries, [names[row] for row in rows], sums)
        marked[0] = entries[0]  # the names belong to these images
        return marked

    def names_of(self, images: Tensor) -> list[bytes] | None:
        """Return the names if ``images`` are this batch's, unchanged; else None."""
        unchanged = len(self) > 0 and images is self[0] and images._version == self._version
        return self.names if unchanged else None


def _joined(names: list[bytes] | None, shard: Shard) -> list[bytes] | None:
    """Return the names of the whole batch; None if those of a rank are unknown."""
    own = torch.zeros(max(1, shard.rows), LENGTH, dtype=torch.uint8)  # zeros: unknown
    if names is not None:
        own = torch.frombuffer(bytearray(b"".join(names)), dtype=torch.uint8).view(-1, LENGTH)
    whole = shard.join(own)
    if not bool(whole.any(dim=1).all()):
        return None
    return [row.numpy().tobytes() for row in whole]


def _is_copy_elsewhere(old: Any, new: Any) -> bool:
    """Return True if ``new`` is ``old``, or its copy on another device or in pinned memory."""
    if new is old:
        return True
    if not isinstance(old, Tensor) or not isinstance(new, Tensor):
        return False
    moved = new.device != old.device or (new.is_pinned() and not old.is_pinned())
    return moved and new.shape == old.shape and new.dtype == old.dtype


class Marking:
    """A collate function that adds names to the batches of another collate function.

    The names are computed where the batch is collated: in the loader's worker processes, if it
    has workers.

    Args:
        collate: the other collate function.
        verify: True adds checksums, for batches that leave the CPU.
    """

    def __init__(self, collate: Collate, verify: bool) -> None:
        self.collate, self.verify = collate, verify

    def __call__(self, items: list[Any]) -> Any:
        """Return the collated items, as a :class:`MarkedBatch` if they begin with images."""
        numbers = [item.number for item in items if isinstance(item, NumberedItem)]
        batch = self.collate([i.item for i in items] if numbers else items)
        if not isinstance(batch, (list, tuple)) or not batch:
            return batch
        if not isinstance(batch[0], (Tensor, PixelBatch)):
            return batch
        if numbers:
            return MarkedBatch(batch, [sample_name(n) for n in numbers])
        if isinstance(batch[0], PixelBatch):
            return MarkedBatch(batch, pixel_names(batch[0].identity(), tasks_of(batch)))
        names = pixel_names(batch[0], tasks_of(batch))
        return MarkedBatch(batch, names, checksums(batch[0]) if self.verify else None)


def tasks_of(batch: Any) -> Tensor | None:
    """Return the task labels of a mini-batch, [B]; None if it has none."""
    return batch[-1] if len(batch) > 2 and isinstance(batch[-1], Tensor) else None


def task_forward(tasks: Tensor | None) -> Forward:
    """Return the forward of images with the task labels ``tasks`` [B]; None means task 0."""
    return partial(_forward, 0 if tasks is None else tasks)


def _forward(tasks: Any, model: nn.Module, images: Tensor) -> Any:
    return avalanche_forward(model, images, tasks)


def mark(loader: Any, verify: bool) -> None:
    """Make the loader name the samples of its batches, see :class:`Marking`; safe to repeat."""
    if isinstance(loader, MultiDatasetDataLoader):
        collate = loader.loader_kwargs["collate_fn"]
        if not isinstance(collate, Marking):
            loader.loader_kwargs["collate_fn"] = Marking(collate, verify)
    elif datasets_of(loader) is not None and not isinstance(loader.collate_fn, Marking):
        loader.collate_fn = Marking(loader.collate_fn, verify)
