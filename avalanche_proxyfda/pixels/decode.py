"""Decodes an image to a uint8 tensor: JPEGs by libjpeg-turbo itself, other images by PIL."""

from __future__ import annotations

import io
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torchvision.io import ImageReadMode

from avalanche_proxyfda.pixels.jpeg import JpegHeader, jpeg_header
from avalanche_proxyfda.streams.files.encoded import EncodedImage
from avalanche_proxyfda.streams.files.images import DAMAGE

WAYS = ("jpeg", "reduced", "pil", "row")
"""How an image was read: a whole JPEG; a large JPEG at a half, a quarter or an eighth of its
size; by PIL, at the speed of PIL; from rows of resized images."""
JPEG, REDUCED, PIL, ROW = range(len(WAYS))
GAP = 2
"""A JPEG is read at a reduced size that is at least this many times the wanted size."""
_RGB = ImageReadMode.RGB.value


try:
    import simplejpeg
except ImportError:
    simplejpeg = None


def decode_jpeg(content: NDArray[np.uint8]) -> Tensor:
    """Decode a JPEG to [3, H, W] uint8, in memory by rows of pixels.

    simplejpeg is about a tenth faster than torchvision and gives the same bits: both use
    libjpeg-turbo. It is taken if it is installed (the extra ``jpeg``).

    Raises:
        RuntimeError, ValueError: if the JPEG is damaged.
    """
    if simplejpeg is not None:
        return torch.from_numpy(simplejpeg.decode_jpeg(content)).permute(2, 0, 1)
    # the operator of torchvision.io.decode_jpeg, which issues a warning for every image
    decoded: Tensor = torch.ops.image.decode_jpeg(torch.from_numpy(content), _RGB, False)
    return decoded


@cache
def check_decoder() -> None:
    """Check that a JPEG can be decoded.

    Raises:
        ImportError: if torchvision was built without its image extension, and simplejpeg is
            not installed.
    """
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "JPEG")
    try:
        decode_jpeg(np.frombuffer(bytearray(file.getvalue()), np.uint8))
    except (RuntimeError, AttributeError) as error:
        raise ImportError(
            "torchvision was built without its image extension, which decodes JPEGs: pip install "
            "'avalanche-proxyfda[jpeg]', or take pipeline='pil' (train.pipeline=pil)"
        ) from error


class Opened:
    """An image whose size is known and whose pixels are not decoded yet.

    Args:
        image: a stored image, or an RGB image of PIL.

    Attributes:
        height, width: size in pixels, upright.

    Raises:
        UnreadableImage: if PIL must read the image, and cannot.
    """

    def __init__(self, image: EncodedImage | Image.Image) -> None:
        self._encoded = image if isinstance(image, EncodedImage) else None
        self._header: JpegHeader | None = None
        self._image: Any = None
        if self._encoded is None:
            self._image = image
        else:
            header = jpeg_header(self._encoded.content)
            if header is None or not header.plain:
                self._image = self._encoded.rgb()
            elif header.width * header.height > self._encoded.max_pixels:
                self._image = self._encoded.rgb()  # raises
            else:
                self._header = header
        shown = self._header or self._image
        self.height, self.width = int(shown.height), int(shown.width)

    def decode(self, denominator: int = 1) -> tuple[Tensor, int]:
        """Decode the pixels.

        Args:
            denominator: 1, 2, 4 or 8; a JPEG is read at that part of its size, in either
                direction. Other images are read at their size.

        Returns:
            [3, H, W] uint8, in memory by rows of pixels, and the way, a place in :data:`WAYS`.

        Raises:
            UnreadableImage: if the image is damaged.
        """
        if self._header is not None:
            assert self._encoded is not None
            try:
                if denominator == 1:
                    return decode_jpeg(self._encoded.content), JPEG
                return self._reduced(denominator), REDUCED
            except (RuntimeError, *DAMAGE):
                # PIL's error names the file; what PIL can read is counted as PIL's
                self._image, self._header = self._encoded.rgb(), None
        return _tensor(self._image), PIL

    def _reduced(self, denominator: int) -> Tensor:
        assert self._encoded is not None
        with Image.open(io.BytesIO(self._encoded.content.data), formats=("JPEG",)) as opened:
            size = (opened.width // denominator, opened.height // denominator)
            opened.draft("RGB", size)
            return _tensor(opened.convert("RGB"))


def _tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)


def denominator_for(size: float, wanted: int) -> int:
    """Return the largest of 1, 2, 4 and 8 that leaves :data:`GAP` times the wanted size.

    Example:
        >>> from avalanche_proxyfda.pixels.decode import denominator_for
        >>> denominator_for(2000, 224), denominator_for(500, 224)
        (4, 1)
    """
    return next((d for d in (8, 4, 2) if size // d >= GAP * wanted), 1)
