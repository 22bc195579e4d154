"""Images in files: read as RGB whatever they are, or refused with their path."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image, ImageOps
from torch.utils.data import Dataset
from tqdm import tqdm

MAX_PIXELS = 50_000_000  # 200 MB as RGBA: above any photograph of a data set
# what the file is, whatever it is called: PIL would hand PostScript to an interpreter
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
# what PIL raises for damaged files, found by changing bytes
DAMAGE = (
    OSError, EOFError, SyntaxError, ValueError, TypeError, ArithmeticError, LookupError,
    MemoryError, struct.error, Image.DecompressionBombError,
)  # fmt: skip
ENDINGS = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}


class UnreadableImage(ValueError):  # noqa: N818 (it says what is wrong)
    """An image that cannot be used; the message begins with its path."""


def is_image_name(name: str) -> bool:
    """Whether a file is called like an image."""
    return Path(name).suffix.lower() in ENDINGS and not name.startswith(".")


def load_rgb(path: Path | str, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """The image at ``path``, upright and in RGB; see :func:`decode`.

    Raises:
        UnreadableImage: also when the file is missing or empty.
    """
    path = Path(path)
    try:
        if path.stat().st_size == 0:  # of pipes and devices too
            raise UnreadableImage(f"{path}: the file is empty")
        with path.open("rb") as file:
            return decode(file, str(path), max_pixels)
    except FileNotFoundError as error:
        raise UnreadableImage(f"{path}: there is no such file") from error
    except OSError as error:
        raise UnreadableImage(f"{path}: {error}") from error


def decode(file: IO[bytes], name: str, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """An encoded image, upright and in RGB.

    Grey, palette, CMYK, 16-bit and transparent images are converted (transparency is put on
    white), and EXIF's orientation is applied.

    Args:
        file: where it is read from.
        name: what errors call it.
        max_pixels: the most it may have, which is looked at before they are decoded.

    Raises:
        UnreadableImage: when it is damaged, no image, too large, or of numbers that have no
            agreed range (floating point, negative).
    """
    try:
        with Image.open(file, formats=FORMATS) as opened:
            if opened.width * opened.height > max_pixels:
                raise UnreadableImage(
                    f"{name}: {opened.width} x {opened.height} are more than {max_pixels} pixels"
                )
            return _flattened(ImageOps.exif_transpose(opened), name)
    except UnreadableImage:
        raise
    except DAMAGE as error:
        raise UnreadableImage(f"{name}: {error or type(error).__name__}") from error


def _flattened(image: Image.Image, name: str) -> Image.Image:
    if image.mode == "F":
        raise UnreadableImage(f"{name}: floating-point pixels have no agreed range")
    if image.mode.startswith("I"):  # 16 bits, which PIL's own conversion would clip
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise UnreadableImage(f"{name}: pixels are not numbers of 16 bits")
        image = Image.fromarray(np.round(values / 257.0).astype(np.uint8))
    if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "La", "RGBa"):
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


class ImageFiles(Dataset[tuple[Any, int]]):
    """Images by path with their labels.

    Args:
        paths: one a sample.
        targets: labels from 0, one a sample.
        max_pixels: see :func:`load_rgb`.

    Raises:
        ValueError: when there are not as many targets as paths.
    """

    def __init__(
        self, paths: Sequence[Path], targets: Sequence[int], max_pixels: int = MAX_PIXELS
    ) -> None:
        if len(paths) != len(targets):
            raise ValueError(f"{len(paths)} paths, but {len(targets)} targets")
        self.paths = list(paths)
        self.targets = [int(t) for t in targets]
        self.max_pixels = max_pixels

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return load_rgb(self.paths[index], self.max_pixels), self.targets[index]


def scan(paths: Sequence[Path], max_pixels: int = MAX_PIXELS, workers: int = 4) -> dict[Path, str]:
    """Read every image once; what is wrong with each that cannot be read.

    A progress bar appears after five seconds.
    """
    files = ImageFiles(paths, [0] * len(paths), max_pixels)
    return {paths[k]: reason for k, reason in scan_items(files, "images", workers).items()}


def scan_items(data: Any, about: str, workers: int = 4) -> dict[int, str]:
    """Read every item of a data set of images once; why those that fail cannot be read.

    A progress bar, called ``about``, appears after five seconds.
    """

    def check(place: int) -> str:
        try:
            data[place]
        except UnreadableImage as error:
            return str(error)
        except DAMAGE as error:  # torchvision's own readers
            return f"{type(error).__name__}: {error}"
        return ""

    places = range(len(data))
    with ThreadPoolExecutor(workers) as pool:
        bar = tqdm(pool.map(check, places), total=len(data), desc=about, delay=5, leave=False)
        return {place: reason for place, reason in zip(places, bar, strict=True) if reason}


def list_hash(lines: Sequence[str]) -> str:
    """SHA-256 of lines, sorted; the identity of a split."""
    return hashlib.sha256("".join(f"{line}\n" for line in sorted(lines)).encode()).hexdigest()
