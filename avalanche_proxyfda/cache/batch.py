"""Batches that carry the names of their samples from the loader to the teacher."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor

from avalanche_proxyfda.cache.names import checksums, pixel_names, sample_name
from avalanche_proxyfda.cache.views import NumberedItem

Collate = Callable[[list[Any]], Any]


class MarkedBatch(list[Any]):
    """A mini-batch whose samples have names; it goes through workers, pinning and devices.

    Avalanche moves the entries of a list in place, so the names stay beside the images that
    they are of. They are given up as soon as the images are replaced by anything but their own
    copy in pinned memory or on another device, or are changed in place.

    Args:
        entries: the mini-batch, images first.
        names: of its samples.
        sums: :func:`~avalanche_proxyfda.cache.names.checksums` of the images as they were
            named, or None where they stay on the CPU.
    """

    def __init__(
        self, entries: Iterable[Any] = (), names: list[bytes] | None = None,
        sums: Tensor | None = None,
    ) -> None:  # fmt: skip
        super().__init__(entries)
        self.names = names
        self.sums = sums
        self._version: int | None = None  # of the images when they were put in place

    def __setitem__(self, place: Any, value: Any) -> None:
        if place == 0:
            if not _same_elsewhere(self[0], value):
                self.names = None
            self._version = getattr(value, "_version", None)
        super().__setitem__(place, value)

    def pin_memory(self) -> MarkedBatch:
        """The batch in pinned memory."""
        entries = (e.pin_memory() if isinstance(e, Tensor) else e for e in self)
        sums = None if self.sums is None else self.sums.pin_memory()
        return MarkedBatch(entries, self.names, sums)

    def names_of(self, images: Tensor) -> list[bytes] | None:
        """The names, if ``images`` are this batch's as they were put in place."""
        mine = len(self) > 0 and images is self[0] and images._version == self._version
        return self.names if mine else None


def _same_elsewhere(old: Any, new: Any) -> bool:
    if new is old:
        return True
    if not isinstance(old, Tensor) or not isinstance(new, Tensor):
        return False
    moved = new.device != old.device or (new.is_pinned() and not old.is_pinned())
    return moved and new.shape == old.shape and new.dtype == old.dtype


class Marking:
    """A collate function that names the samples of each batch that another one makes.

    It runs where the loader does: in its worker processes, if it has any.

    Args:
        collate: the other one.
        verify: whether to add check sums, for batches that will leave the CPU.
    """

    def __init__(self, collate: Collate, verify: bool) -> None:
        self.collate, self.verify = collate, verify

    def __call__(self, items: list[Any]) -> Any:
        """Collate items, and name them."""
        numbers = [item.number for item in items if isinstance(item, NumberedItem)]
        batch = self.collate([i.item for i in items] if numbers else items)
        if not isinstance(batch, (list, tuple)) or not batch or not isinstance(batch[0], Tensor):
            return batch
        if numbers:
            return MarkedBatch(batch, [sample_name(n) for n in numbers])
        names = pixel_names(batch[0], tasks_of(batch))
        return MarkedBatch(batch, names, checksums(batch[0]) if self.verify else None)


def tasks_of(batch: Any) -> Tensor | None:
    """The task labels of a mini-batch, [B], where it has any."""
    return batch[-1] if len(batch) > 2 and isinstance(batch[-1], Tensor) else None
