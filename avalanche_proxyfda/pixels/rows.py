"""Rows of resized images, uint8, in memory or in one mapped file, shared by runs."""

from __future__ import annotations

import math
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from avalanche_proxyfda._files import expanded, remove_leftovers, replacing
from avalanche_proxyfda._locks import lock_handle
from avalanche_proxyfda.pixels.digests import image_digests, rows_name
from avalanche_proxyfda.pixels.geometry import Resizing
from avalanche_proxyfda.streams.files.encoded import EncodedImages

GB = 10**9
SHARED = Path("/dev/shm")
"""Folder of shared memory on Linux; the kernel ends a process that takes more than there is."""


@dataclass(frozen=True, eq=False)
class StoredRow:
    """A row of resized images, in place of an image.

    Attributes:
        row: [H, W, 3] uint8.
        resizing: how the image became the row.
    """

    row: Tensor
    resizing: Resizing


class PixelRows:
    """Rows [N, side, side, 3] uint8.

    Args:
        count: number of rows.
        side: side of a row's image.
        path: file of the rows, which exists and is whole; None allocates shared memory.

    Raises:
        OSError: if the rows do not fit into shared memory.

    Example:
        >>> from avalanche_proxyfda.pixels import PixelRows
        >>> rows = PixelRows(10, side=4, path=None)
        >>> _ = rows[0].fill_(255)  # a row is a view of the shared memory
        >>> len(rows), rows[0].shape, int(rows[0].min())
        (10, torch.Size([4, 4, 3]), 255)
    """

    def __init__(self, count: int, side: int, path: Path | None) -> None:
        self.count, self.side, self.path = count, side, path
        self._rows = self._open()

    def _open(self) -> Tensor:
        shape = (self.count, self.side, self.side, 3)
        if self.path is None:
            _check_shared_memory(math.prod(shape))
            rows = torch.empty(shape, dtype=torch.uint8)
            rows.share_memory_()  # type: ignore[no-untyped-call]
            return rows
        # copy on write: no row of the file can change
        return torch.from_numpy(np.memmap(self.path, np.uint8, "c", shape=shape))

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, place: int) -> Tensor:
        return self._rows[place]

    def __getstate__(self) -> dict[str, Any]:
        """Return the attributes for pickling; a process that gets them maps the file itself."""
        rows = self._rows if self.path is None else None
        return {"count": self.count, "side": self.side, "path": self.path, "_rows": rows}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self.path is not None:
            self._rows = self._open()


def _check_shared_memory(size: int) -> None:
    """Raise OSError if the system's shared memory has fewer than ``size`` bytes left."""
    if not SHARED.is_dir():
        return
    free = shutil.disk_usage(SHARED).free
    if size > free:
        raise OSError(
            f"rows of {size / GB:.2f} GB do not fit into shared memory, where {SHARED} has "
            f"{free / GB:.2f} GB left: give a folder for the rows (RowStore(folder), or the key "
            "where.pixel_dir), or more shared memory (--shm-size of a container)"
        )


class RowImages(Dataset[tuple[StoredRow, int]]):
    """A data set of stored rows with labels.

    Args:
        rows: the rows of all different images.
        places: [N] row of each image.
        targets: [N] labels.
        resizing: how images became rows.

    Example:
        >>> from avalanche_proxyfda.pixels import PixelRows, Resizing, RowImages
        >>> rows = PixelRows(2, side=4, path=None)
        >>> images = RowImages(rows, places=[0, 1, 1], targets=[0, 1, 1], resizing=Resizing(4, 4))
        >>> stored, label = images[2]
        >>> len(images), stored.row.shape, label
        (3, torch.Size([4, 4, 3]), 1)
    """

    def __init__(
        self, rows: PixelRows, places: Sequence[int], targets: Sequence[int], resizing: Resizing
    ) -> None:
        self.rows, self.places = rows, list(places)
        self.targets, self.resizing = list(targets), resizing

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[StoredRow, int]:
        return StoredRow(self.rows[self.places[index]], self.resizing), self.targets[index]


class RowStore:
    """Keeps resized images, so that each is decoded once for all epochs and runs.

    Rows are named by the images' content and the resize, so runs with other splits or orders of
    the same images share them. 30 000 images of 256 x 256 take 5.9 GB. A file is written beside
    its place and renamed when it is whole. A process waits for another one that builds the same
    file.

    Args:
        folder: folder of the files, made if it is missing; None keeps rows in this process's
            memory, shared with its loaders' workers.
        most_bytes: largest size of the rows of one data set.
        threads: threads that decode; None takes the number of cores.

    Raises:
        ValueError: for a bound below 1.

    Example:
        >>> from PIL import Image
        >>> from avalanche_proxyfda.pixels import Finish, PixelView, Resizing, RowStore
        >>> from avalanche_proxyfda.streams.files.labelled import Labelled
        >>> pictures = [(Image.new("RGB", (32, 32), c), 0) for c in ("red", "blue", "red")]
        >>> view = PixelView(Resizing(8, 8), Finish(8, (0.5,) * 3, (0.5,) * 3), store=RowStore())
        >>> images = view.source(Labelled(pictures, rows=(0, 1, 2), targets=(0, 1, 0)))
        >>> len(images), len(images.rows)  # equal images share a row
        (3, 2)
    """

    def __init__(
        self,
        folder: str | os.PathLike[str] | None = None,
        most_bytes: int = 32 * GB,
        threads: int | None = None,
    ) -> None:
        if most_bytes < 1:
            raise ValueError(f"most_bytes={most_bytes} must be positive")
        self.folder = None if folder is None else expanded(folder)
        self.most_bytes, self.threads = most_bytes, threads
        self._kept: dict[str, PixelRows] = {}

    def images(
        self,
        data: EncodedImages,
        row: Callable[[Any], Tensor],
        resizing: Resizing,
        interpolation: str,
    ) -> RowImages:
        """Return a data set's stored rows; build them first if the store lacks them.

        The size is printed before rows are built, and a bar shows the progress.

        Args:
            data: the images.
            row: makes [side, side, 3] uint8 of an item of ``data``.
            resizing: the resize of ``row``.
            interpolation: the interpolation of ``row``.

        Raises:
            UnreadableImage: if an image is damaged.
            ValueError: if the rows exceed ``most_bytes``.
            OSError: if the disk has no room, or the file cannot be written.
        """
        digests = image_digests(data, self.folder)
        first = {digest: k for k, digest in reversed([*enumerate(digests)])}
        unique = sorted(first)
        name = rows_name(unique, resizing, interpolation)
        if name not in self._kept:
            self._kept[name] = self._rows(
                name, resizing.side, data, [first[d] for d in unique], row
            )
        place = {digest: k for k, digest in enumerate(unique)}
        return RowImages(self._kept[name], [place[d] for d in digests], data.targets, resizing)

    def _rows(
        self,
        name: str,
        side: int,
        data: EncodedImages,
        numbers: list[int],
        row: Callable[[Any], Tensor],
    ) -> PixelRows:
        size = len(numbers) * side * side * 3
        about = f"{len(numbers)} images of {side} x {side}, {size / GB:.2g} GB"
        if size > self.most_bytes:
            raise ValueError(
                f"the rows of {about} exceed most_bytes={self.most_bytes}: raise it "
                "(where.pixel_gb), or decode images as they are read (train.pipeline=tensor)"
            )
        if self.folder is None:
            rows = PixelRows(len(numbers), side, None)
            self._fill(rows._rows, data, numbers, row, f"{about}, in memory")
            return rows
        path = self.folder / f"{name}.pixels"
        with _locked(path):
            if not path.is_file() or path.stat().st_size != size:
                free = shutil.disk_usage(self.folder).free
                if free < size:
                    raise OSError(f"{path} needs {size} bytes, and the disk has {free}")
                remove_leftovers(path)
                with replacing(path) as temporary:
                    mapped = np.memmap(
                        temporary, np.uint8, "w+", shape=(len(numbers), side, side, 3)
                    )
                    target = torch.from_numpy(mapped)
                    self._fill(target, data, numbers, row, f"{about}, in {self.folder}")
                    mapped.flush()
        return PixelRows(len(numbers), side, path)

    def _fill(
        self,
        target: Tensor,
        data: EncodedImages,
        numbers: list[int],
        row: Callable[[Any], Tensor],
        about: str,
    ) -> None:
        print(f"resized images are stored: {about}", file=sys.stderr)

        def write(place: int) -> None:
            target[place] = row(data[numbers[place]][0])

        with ThreadPoolExecutor(self.threads or os.cpu_count() or 1) as pool:
            done = pool.map(write, range(len(numbers)))
            for _ in tqdm(done, total=len(numbers), desc="resizing", delay=5, leave=False):
                pass


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock of ``path``, so that one process builds it and others wait."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.with_suffix(".lock"), "wb") as lock:
        lock_handle(lock.fileno(), wait=True)  # on Windows two processes may build the same file
        yield
