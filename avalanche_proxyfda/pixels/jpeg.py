"""The header of a JPEG: size, channels and orientation, read without decoding."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_ORIENTATION = 274  # EXIF's tag
_BARE = {0x01, *range(0xD0, 0xD9)}  # markers without a length
_FRAMES = {0xC0, 0xC1, 0xC2}  # baseline, extended and progressive; Huffman coding
_OTHER_FRAMES = {0xC3, *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0)}


@dataclass(frozen=True)
class JpegHeader:
    """The header of a JPEG.

    Attributes:
        width, height: size in pixels, as it is stored.
        plain: True for 8 bits, one or three channels, and no rotation by EXIF.
    """

    width: int
    height: int
    plain: bool


def jpeg_header(content: NDArray[np.uint8]) -> JpegHeader | None:
    r"""Read the header of a JPEG; return None for other formats and damaged headers.

    Args:
        content: [bytes] uint8, the whole file.

    Example:
        >>> import numpy as np
        >>> from avalanche_proxyfda.pixels.jpeg import jpeg_header
        >>> jpeg_header(np.frombuffer(b"\x89PNG", np.uint8)) is None
        True
    """
    data = content.data
    end, at = len(data), 2
    if end < 4 or data[0] != 0xFF or data[1] != 0xD8:
        return None
    upright = True
    while at + 4 <= end:
        if data[at] != 0xFF:
            return None
        marker = data[at + 1]
        if marker == 0xFF:  # padding
            at += 1
            continue
        if marker in _BARE:
            at += 2
            continue
        length = data[at + 2] << 8 | data[at + 3]
        if length < 2 or at + 2 + length > end:
            return None
        if marker in _FRAMES or marker in _OTHER_FRAMES:
            if length < 8:
                return None
            bits = data[at + 4]
            height = data[at + 5] << 8 | data[at + 6]
            width = data[at + 7] << 8 | data[at + 8]
            plain = marker in _FRAMES and bits == 8 and data[at + 9] in (1, 3)
            return JpegHeader(width, height, plain and upright and width > 0 and height > 0)
        if marker == 0xE1 and bytes(data[at + 4 : at + 10]) == b"Exif\0\0":
            upright = upright and _is_upright(bytes(data[at + 4 : at + 2 + length]))
        if marker == 0xDA:  # pixels begin before a frame was declared
            return None
        at += 2 + length
    return None


def _is_upright(exif: bytes) -> bool:
    tags = Image.Exif()
    try:
        tags.load(exif)
        return bool(tags.get(_ORIENTATION, 1) == 1)
    except Exception:  # a damaged EXIF: PIL's own reader decides
        return False
