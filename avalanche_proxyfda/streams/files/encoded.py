"""Images as they are stored, undecoded, so that a view can choose how to decode them."""

from __future__ import annotations

import io
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import Dataset

from avalanche_proxyfda.streams.files.images import (
    MAX_PIXELS,
    ImageFiles,
    UnreadableImage,
    absent,
    decode,
)
from avalanche_proxyfda.streams.files.labelled import Labelled
from avalanche_proxyfda.streams.files.packs import PackedImages


@dataclass(frozen=True, eq=False)
class EncodedImage:
    """The content of an image file.

    Attributes:
        content: [bytes] uint8, the whole file.
        name: name of the image in errors.
        max_pixels: largest number of pixels.
    """

    content: NDArray[np.uint8]
    name: str
    max_pixels: int = MAX_PIXELS

    def rgb(self) -> Image.Image:
        """Decode the image by PIL, see :func:`~avalanche_proxyfda.streams.files.images.decode`.

        Raises:
            UnreadableImage: if the image is damaged or too large.
        """
        return decode(io.BytesIO(self.content.tobytes()), self.name, self.max_pixels)


class EncodedImages(Dataset[tuple[Any, int]]):
    """A data set of images with its images undecoded.

    Items are :class:`EncodedImage` where the data set stores encoded images (:class:`ImageFiles`
    and :class:`PackedImages`, also as rows of :class:`Labelled`). Other data sets, such as
    torchvision's, have readers of their own: their items stay images of PIL.

    Args:
        data: data set with ``targets``; its items are images of PIL with labels.
    """

    def __init__(self, data: Any) -> None:
        self.data = data
        self.targets = list(data.targets)
        self._stored, self._rows = data, None
        if isinstance(data, Labelled):
            self._stored, self._rows = data.source, data.rows

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        encoded = self.encoded(index)
        return (self.data[index][0] if encoded is None else encoded), self.targets[index]

    def encoded(self, index: int) -> EncodedImage | None:
        """Return an image undecoded; None if the data set does not store it so.

        Raises:
            UnreadableImage: if the file is missing or empty.
        """
        row, stored = index if self._rows is None else self._rows[index], self._stored
        if isinstance(stored, ImageFiles):
            return _read(stored, row)
        if isinstance(stored, PackedImages):
            content = stored.buffer[stored.offsets[row] : stored.offsets[row + 1]].copy()
            return EncodedImage(content, f"{stored.name}, image {row}")
        return None

    def path(self, index: int) -> Path | None:
        """Return the file of an image; None without one of its own."""
        row = index if self._rows is None else self._rows[index]
        return self._stored.paths[row] if isinstance(self._stored, ImageFiles) else None


def _read(files: ImageFiles, row: int) -> EncodedImage:
    path = files.paths[row]
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode):  # a pipe would never end
            raise UnreadableImage(f"{path}: this is no file")
        content = np.empty(about.st_size, np.uint8)
        with path.open("rb") as file:  # fewer system calls than numpy's fromfile
            content = content[: file.readinto(content.data)]
    except FileNotFoundError as error:
        raise UnreadableImage(absent(path)) from error
    except OSError as error:
        raise UnreadableImage(f"{path}: {error.strerror or error}") from error
    if len(content) == 0:
        raise UnreadableImage(f"{path}: the file is empty")
    return EncodedImage(content, str(path), files.max_pixels)


def for_view(data: Any, view: Any) -> Any:
    """Return a data set as a view takes it: with images of PIL, unless the view says otherwise.

    Args:
        data: data set whose items are images of PIL with labels.
        view: a transform; its method ``source`` returns the data set that it takes, see
            :class:`~avalanche_proxyfda.pixels.views.PixelView`.
    """
    source = getattr(view, "source", None)
    return data if source is None else source(data)
