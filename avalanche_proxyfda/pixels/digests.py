"""Names of images and of stored rows, by content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from avalanche_proxyfda._files import write_bytes
from avalanche_proxyfda.pixels.geometry import Resizing
from avalanche_proxyfda.streams.files.encoded import EncodedImage, EncodedImages

VERSION = 1
"""Raised when the same image and resize give other rows."""
_KNOWN = "digests.json"


def rows_name(digests: Sequence[str], resizing: Resizing, interpolation: str) -> str:
    """Return the name of the rows of some images: a hash of contents and resize.

    Example:
        >>> from avalanche_proxyfda.pixels import Resizing
        >>> from avalanche_proxyfda.pixels.digests import rows_name
        >>> rows_name(["a"], Resizing(8, 8), "bilinear")[:8]
        '94a8d04c'
    """
    text = json.dumps([VERSION, list(digests), repr(resizing), interpolation])
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def image_digests(data: EncodedImages, folder: Path | None) -> list[str]:
    """Return the SHA-256 of each image's content.

    Args:
        data: the images. An image that has no stored content is named by its pixels.
        folder: folder of a file that remembers digests by path, size and time of change, so
            that a later run reads no file again; None remembers nothing.

    Raises:
        UnreadableImage: if a file cannot be read.
    """
    known = {} if folder is None else _known(folder / _KNOWN)
    before, digests = len(known), []
    for k in tqdm(range(len(data)), desc="naming images", delay=5, leave=False):
        mark = _mark(data.path(k)) if folder is not None else None
        digest = known.get(mark) if mark is not None else None
        if digest is None:
            digest = _digest(data[k][0])
            if mark is not None:
                known[mark] = digest
        digests.append(digest)
    if folder is not None and len(known) > before:
        write_bytes(folder / _KNOWN, json.dumps(known).encode())
    return digests


def _mark(path: Path | None) -> str | None:
    if path is None or not path.is_file():
        return None
    status = path.stat()
    return f"{path.absolute()}|{status.st_size}|{status.st_mtime_ns}"


def _known(path: Path) -> dict[str, str]:
    """Return the remembered digests; none if the file is missing or damaged."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    valid = isinstance(content, dict) and all(isinstance(d, str) for d in content.values())
    return content if valid else {}


def _digest(image: Any) -> str:
    if isinstance(image, EncodedImage):
        return hashlib.sha256(image.content.data).hexdigest()
    pixels = np.ascontiguousarray(np.asarray(image.convert("RGB")))
    return hashlib.sha256(f"{pixels.shape}".encode() + pixels.tobytes()).hexdigest()
