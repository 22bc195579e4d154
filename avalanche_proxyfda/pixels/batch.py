"""Images of a mini-batch as uint8, which become the model's images when they reach a device."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import get_worker_info
from torch.utils.data._utils.collate import default_collate_fn_map

from avalanche_proxyfda.pixels.decode import WAYS
from avalanche_proxyfda.pixels.finish import Finish
from avalanche_proxyfda.pixels.geometry import Box

counts: Counter[str] = Counter()
"""Images that reached a device in this process, by the way they were read, see ``WAYS``."""


@dataclass(frozen=True, eq=False)
class Pixels:
    """One image as a view gives it.

    Attributes:
        row: [H, W, 3] uint8.
        finish: makes the model's image.
        way: how the image was read, a place in :data:`~avalanche_proxyfda.pixels.decode.WAYS`.
        box: the part that is seen; None for the whole row.

    Example:
        >>> import torch
        >>> from avalanche_proxyfda.pixels import Finish, Pixels
        >>> finish = Finish(2, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
        >>> pixels = Pixels(torch.zeros(2, 2, 3, dtype=torch.uint8), finish, way=0)
        >>> pixels.image().shape, pixels.image().unique()
        (torch.Size([3, 2, 2]), tensor([-1.]))
    """

    row: Tensor
    finish: Finish
    way: int
    box: Box | None = None

    def image(self) -> Tensor:
        """Return the model's image [3, side, side], float32 on the CPU."""
        return PixelBatch.of([self]).finished(torch.device("cpu"))[0]


class PixelBatch:
    """The images of a mini-batch, uint8 on the CPU.

    :meth:`to` stands in for a tensor's ``to``, which everything that reads batches calls: it
    copies the uint8 pixels, a quarter of the floats, and makes the floats on the device. A view
    is fixed before that, so the batch has an identity that caches can name.

    torch's and Avalanche's collate functions make batches of :class:`Pixels`.

    Args:
        rows: [B, H, W, 3] uint8.
        finish: makes the model's images.
        boxes: [B, 5] int32, the part that is seen of each row; None for whole rows.
        ways: number of images by the way they were read.

    Example:
        >>> import torch
        >>> from avalanche_proxyfda.pixels import Finish, PixelBatch
        >>> finish = Finish(2, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
        >>> batch = PixelBatch(torch.full((4, 2, 2, 3), 255, dtype=torch.uint8), finish)
        >>> batch.to("cpu").shape, float(batch.to("cpu").max())
        (torch.Size([4, 3, 2, 2]), 1.0)
    """

    def __init__(
        self,
        rows: Tensor,
        finish: Finish,
        boxes: Tensor | None = None,
        ways: Sequence[int] = (0,) * len(WAYS),
    ) -> None:
        self.rows, self.finish, self.boxes, self.ways = rows, finish, boxes, tuple(ways)
        self._made: weakref.ref[Tensor] | None = None  # the images of the last call of ``to``

    @staticmethod
    def of(items: Sequence[Pixels]) -> PixelBatch:
        """Collate images, in shared memory if this is a loader's worker process.

        Raises:
            ValueError: if the images have different views or sizes.
        """
        first = items[0]
        if any(i.finish != first.finish or i.row.shape != first.row.shape for i in items):
            raise ValueError(
                "the images of a batch have different views: give all data sets of a loader the "
                "same size, mean and std"
            )
        rows = torch.empty(len(items), *first.row.shape, dtype=torch.uint8)
        if get_worker_info() is not None:
            rows.share_memory_()  # type: ignore[no-untyped-call]
        torch.stack([item.row for item in items], out=rows)
        boxes = None
        if any(item.box is not None for item in items):
            whole = (0, 0, *first.row.shape[:2], 0)
            boxes = torch.tensor([item.box or whole for item in items], dtype=torch.int32)
        ways = [0] * len(WAYS)
        for item in items:
            ways[item.way] += 1
        return PixelBatch(rows, first.finish, boxes, ways)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: Any) -> PixelBatch:
        """Return the images of a slice or of a tensor of places."""
        boxes = None if self.boxes is None else self.boxes[rows]
        return PixelBatch(self.rows[rows], self.finish, boxes)

    @property
    def shape(self) -> torch.Size:
        """Shape of the model's images, [B, 3, side, side]."""
        return torch.Size((len(self), 3, self.finish.side, self.finish.side))

    @property
    def device(self) -> torch.device:
        """The CPU."""
        return self.rows.device

    def is_pinned(self) -> bool:
        """Return True if the batch is in pinned memory."""
        return self.rows.is_pinned()

    def pin_memory(self) -> PixelBatch:
        """Return the batch in pinned memory."""
        boxes = None if self.boxes is None else self.boxes.pin_memory()
        return PixelBatch(self.rows.pin_memory(), self.finish, boxes, self.ways)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Tensor:
        """Return the model's images on ``device``, [B, 3, side, side] float32."""
        counts.update({way: n for way, n in zip(WAYS, self.ways, strict=True) if n})
        images = self.finished(torch.device(device), non_blocking)
        self._made = weakref.ref(images)
        return images

    def finished(self, device: torch.device, non_blocking: bool = False) -> Tensor:
        """Return the model's images, and count none."""
        boxes = self.boxes
        if boxes is not None:
            boxes = boxes.to(device, non_blocking=non_blocking)
        return self.finish(self.rows.to(device, non_blocking=non_blocking), boxes)

    def made(self, images: object) -> bool:
        """Return True if ``images`` are the result of the last call of :meth:`to`."""
        return self._made is not None and self._made() is images

    def identity(self) -> Tensor:
        """Return bytes that decide each of the model's images, [B, bytes] uint8."""
        parts = [self.rows.reshape(len(self), -1)]
        if self.boxes is not None:
            parts.append(self.boxes.contiguous().view(torch.uint8))
        digest = torch.frombuffer(bytearray(self.finish.digest), dtype=torch.uint8)
        return torch.cat([*parts, digest.expand(len(self), -1)], dim=1)

    def __getstate__(self) -> dict[str, Any]:
        """Return the attributes for pickling, without the images of the last call of ``to``."""
        return {**self.__dict__, "_made": None}


def _collate(items: Sequence[Pixels], *, collate_fn_map: Any = None) -> PixelBatch:
    return PixelBatch.of(items)


default_collate_fn_map[Pixels] = _collate
