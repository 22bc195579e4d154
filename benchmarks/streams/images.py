"""Images in files: read as RGB whatever they are, or refused with their path."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps
from torch.utils.data import Dataset
from tqdm import tqdm

MAX_PIXELS = 50_000_000  # 200 MB as RGBA: above any photograph of a data set


class UnreadableImage(ValueError):  # noqa: N818 (it says what is wrong)
    """An image that cannot be used; the message begins with its path."""


def load_rgb(path: Path | str, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """The image at ``path``, upright and in RGB.

    Grey, palette, CMYK, 16-bit and transparent images are converted (transparency is put on
    white), and EXIF's orientation is applied.

    Raises:
        UnreadableImage: when the file is missing, empty, damaged, not an image, or has more
            than ``max_pixels`` pixels, which is found before they are decoded.
    """
    path = Path(path)
    try:
        if path.stat().st_size == 0:
            raise UnreadableImage(f"{path}: the file is empty")
        with Image.open(path) as opened:
            pixels = opened.width * opened.height
            if pixels > max_pixels:
                raise UnreadableImage(
                    f"{path}: {opened.width} x {opened.height} are more than {max_pixels} pixels"
                )
            image = ImageOps.exif_transpose(opened)
            return _flattened(image)
    except UnreadableImage:
        raise
    except FileNotFoundError as error:
        raise UnreadableImage(f"{path}: there is no such file") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UnreadableImage(f"{path}: {error or type(error).__name__}") from error


def _flattened(image: Image.Image) -> Image.Image:
    if image.mode in ("I", "I;16", "I;16B", "F"):  # 16 bits: PIL's own conversion would clip
        low, high = (float(v) for v in image.getextrema())
        top = 65535.0 if high > 255 else 255.0
        image = image.point(lambda v: v * (255.0 / top)).convert("L") if low >= 0 else image
    if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "La", "RGBa"):
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
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

    def check(path: Path) -> str:
        try:
            load_rgb(path, max_pixels)
        except UnreadableImage as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(workers) as pool:
        found = list(
            tqdm(pool.map(check, paths), total=len(paths), desc="images", delay=5, leave=False)
        )
    return {path: reason for path, reason in zip(paths, found, strict=True) if reason}


def list_hash(lines: Sequence[str]) -> str:
    """SHA-256 of lines, sorted; the identity of a split."""
    return hashlib.sha256("".join(f"{line}\n" for line in sorted(lines)).encode()).hexdigest()
