"""Generated photographs: smooth shapes of all sizes with grain, as JPEGs of a camera's weight."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.perf.options import QUALITY

SIZE = (500, 375)
"""Width and height, those of most photographs of ImageNet."""


def photograph(seed: int, size: tuple[int, int] = SIZE) -> Image.Image:
    """Draw a picture whose spectrum falls like that of a photograph.

    Args:
        seed: seed of the picture.
        size: width and height.
    """
    random, (width, height) = np.random.default_rng(seed), size
    pixels = np.zeros((height, width, 3))
    for scale in (4, 8, 16, 32, 64, 128):
        cells = random.normal(size=(height // scale + 2, width // scale + 2, 3)) * scale**0.7
        for channel in range(3):
            plane = Image.fromarray(cells[..., channel].astype(np.float32))
            pixels[..., channel] += np.asarray(plane.resize(size, Image.Resampling.BICUBIC))
    pixels = (pixels - pixels.min()) / (pixels.max() - pixels.min()) * 255
    pixels += random.normal(size=(height, width, 1)) * 6
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def write_photographs(folder: Path, count: int, quality: int = QUALITY) -> list[Path]:
    """Write JPEGs of 500 x 375 to ``folder``; return their paths."""
    paths = [folder / f"{k:05d}.jpg" for k in range(count)]
    for seed, path in enumerate(paths):
        photograph(seed).save(path, "JPEG", quality=quality)
    return paths
