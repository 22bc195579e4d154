"""Image files: read as RGB from any mode, or refused with their path."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from torch.utils.data import Dataset
from tqdm import tqdm

MAX_PIXELS = 50_000_000  # 200 MB as RGBA: above any photograph of a data set
# formats of the content, not of the name: PIL would pass PostScript to an interpreter
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
_KINDS = f"the content is none of {', '.join(FORMATS)}"
# exceptions that PIL raises for damaged files, collected by fuzzing
DAMAGE = (
    OSError,
    EOFError,
    SyntaxError,
    ValueError,
    TypeError,
    ArithmeticError,
    LookupError,
    MemoryError,
    struct.error,
    Image.DecompressionBombError,
)


class UnreadableImage(ValueError):  # noqa: N818 (the name states the fault)
    """An image that cannot be used; the message begins with its path."""


def load_rgb(path: Path | str, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Read the image at ``path``, upright and in RGB; see :func:`decode`.

    Raises:
        UnreadableImage: if :func:`decode` refuses the image, or the file is missing or empty.
    """
    path = Path(path)
    try:
        if path.stat().st_size == 0:  # pipes and devices have size 0 too
            raise UnreadableImage(f"{path}: the file is empty")
        with path.open("rb") as file:
            return decode(file, str(path), max_pixels)
    except FileNotFoundError as error:
        raise UnreadableImage(absent(path)) from error
    except OSError as error:
        raise UnreadableImage(f"{path}: {error.strerror or error}") from error


def absent(path: Path) -> str:
    """Return the message that there is no file at ``path``; it tells a broken link apart."""
    if path.is_symlink():
        return f"{path}: the link leads to no file"  # records hold no path of its target
    return f"{path}: there is no such file"


def decode(file: IO[bytes], name: str, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode an image, upright and in RGB.

    Grey, palette, CMYK, 16-bit and transparent images are converted. Transparent images get a
    white background. EXIF's orientation is applied.

    Args:
        file: encoded image.
        name: name of the image in errors.
        max_pixels: largest number of pixels; checked before decoding.

    Raises:
        UnreadableImage: if the file is damaged, no image or too large, or if its pixels have
            no agreed range (floating-point or negative numbers).
    """
    try:
        with Image.open(file, formats=FORMATS) as opened:
            if opened.width * opened.height > max_pixels:
                raise UnreadableImage(
                    f"{name}: {opened.width} x {opened.height} are more than {max_pixels} pixels"
                )
            return as_rgb(opened, name)
    except UnreadableImage:
        raise
    except UnidentifiedImageError as error:  # its message repeats the path
        raise UnreadableImage(f"{name}: cannot identify image file ({_KINDS})") from error
    except DAMAGE as error:
        raise UnreadableImage(f"{name}: {error or type(error).__name__}") from error


def as_rgb(image: Image.Image, name: str = "image") -> Image.Image:
    """Return an image upright, in RGB, and on a white background if it is transparent.

    Args:
        image: an image of PIL; EXIF's orientation is applied.
        name: name of the image in errors.

    Raises:
        UnreadableImage: if the pixels have no agreed range (floating-point or negative numbers).

    Example:
        >>> from PIL import Image
        >>> from avalanche_proxyfda.streams.files.images import as_rgb
        >>> as_rgb(Image.new("RGBA", (1, 1), (255, 0, 0, 0))).getpixel((0, 0))
        (255, 255, 255)
    """
    image = ImageOps.exif_transpose(image)
    if image.mode == "F":
        raise UnreadableImage(f"{name}: floating-point pixels have no agreed range")
    if image.mode.startswith("I"):  # 16 bits: PIL's own conversion would clip them
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise UnreadableImage(f"{name}: pixels are not numbers of 16 bits")
        image = Image.fromarray(np.round(values / 257.0).astype(np.uint8))
    if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "La", "RGBa"):
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


class ImageFiles(Dataset[tuple[Any, int]]):
    """Images in files, with labels.

    Args:
        paths: [N] paths of images.
        targets: [N] labels from 0.
        max_pixels: see :func:`load_rgb`.
        names: [N] names of the images within their data set; None takes ``class/file``.

    Attributes:
        keys: [N] identities of the images in the hash of a split; the names, unless they are
            set to something that a new name does not change, or that other pixels change.
        digests: [N] SHA-256 of the files, None for a file that cannot be read; None if the files
            are not hashed.

    Raises:
        ValueError: if the number of targets or of names differs from the number of paths.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        targets: Sequence[int],
        max_pixels: int = MAX_PIXELS,
        names: Sequence[str] | None = None,
    ) -> None:
        if len(paths) != len(targets):
            raise ValueError(
                f"{len(paths)} paths, but {len(targets)} targets: give a target for each path"
            )
        if names is not None and len(paths) != len(names):
            raise ValueError(
                f"{len(paths)} paths, but {len(names)} names: give a name for each path, or None"
            )
        self.paths = list(paths)
        self.targets = [int(t) for t in targets]
        self.max_pixels = max_pixels
        shown = ("/".join(path.parts[-2:]) for path in self.paths) if names is None else names
        self.names = list(shown)
        self.keys = self.names
        self.digests: list[str | None] | None = None

    def subset(self, rows: Sequence[int]) -> ImageFiles:
        """The images of ``rows``, in the order of ``rows``."""
        part = ImageFiles(
            [self.paths[k] for k in rows],
            [self.targets[k] for k in rows],
            self.max_pixels,
            [self.names[k] for k in rows],
        )
        part.keys = [self.keys[k] for k in rows]
        if self.digests is not None:
            part.digests = [self.digests[k] for k in rows]
        return part

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return load_rgb(self.paths[index], self.max_pixels), self.targets[index]


def scan(paths: Sequence[Path], max_pixels: int = MAX_PIXELS, workers: int = 4) -> dict[Path, str]:
    """Read every image once; return the reason for each broken image, by path.

    A progress bar appears after five seconds.

    Args:
        paths: paths of images.
        max_pixels: see :func:`load_rgb`.
        workers: number of threads.
    """
    files = ImageFiles(paths, [0] * len(paths), max_pixels)
    return {paths[k]: reason for k, reason in scan_items(files, "images", workers).items()}


def scan_items(data: Any, about: str, workers: int = 4) -> dict[int, str]:
    """Read every item of a data set once; return the reason for each broken item, by index.

    Args:
        data: data set of images.
        about: label of the progress bar, which appears after five seconds.
        workers: number of threads.
    """

    def check(place: int) -> str:
        try:
            data[place]
        except UnreadableImage as error:
            return str(error)
        except DAMAGE as error:  # from torchvision's own readers
            return f"{type(error).__name__}: {error}"
        return ""

    places = range(len(data))
    with ThreadPoolExecutor(workers) as pool:
        bar = tqdm(pool.map(check, places), total=len(data), desc=about, delay=5, leave=False)
        return {place: reason for place, reason in zip(places, bar, strict=True) if reason}


def list_hash(lines: Sequence[str]) -> str:
    """SHA-256 of sorted lines; the identity of a split."""
    return hashlib.sha256("".join(f"{line}\n" for line in sorted(lines)).encode()).hexdigest()
