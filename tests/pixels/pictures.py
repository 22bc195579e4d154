"""Pictures for the tests of the input pipeline, encoded in many ways."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from avalanche_proxyfda.models.preprocessing import eval_view
from avalanche_proxyfda.streams.files.encoded import EncodedImage
from avalanche_proxyfda.streams.files.images import ImageFiles

HALF = (0.5, 0.5, 0.5)


def picture(seed: int = 0, size: tuple[int, int] = (50, 37)) -> Image.Image:
    """A smooth picture with some grain, width and height given."""
    random = np.random.default_rng(seed)
    cells = random.integers(0, 255, (5, 6, 3)).astype(np.uint8)
    smooth = np.asarray(Image.fromarray(cells).resize(size, Image.Resampling.BICUBIC))
    grain = random.normal(size=(size[1], size[0], 1)) * 4
    return Image.fromarray((smooth + grain).clip(0, 255).astype(np.uint8))


def encoded(image: Image.Image, kind: str = "JPEG", **options: Any) -> EncodedImage:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return EncodedImage(np.frombuffer(bytearray(file.getvalue()), np.uint8), "a picture")


def files(folder: Path, count: int = 10, size: tuple[int, int] = (50, 37)) -> ImageFiles:
    """JPEGs of two classes."""
    paths = [folder / f"{k:03d}.jpg" for k in range(count)]
    for k, path in enumerate(paths):
        picture(k, size).save(path, "JPEG", quality=90)
    return ImageFiles(paths, [k % 2 for k in range(count)])


def clip_view(size: int = 16, resize_mode: str = "shortest") -> Any:
    """The evaluation view of a CLIP model, as its library builds it: bicubic."""
    return eval_view(
        {
            "library": "open_clip",
            "size": size,
            "mean": HALF,
            "std": HALF,
            "resize_mode": resize_mode,
        }
    )


def timm_view(size: int = 14, crop: float = 0.875) -> Any:
    return eval_view(
        {
            "library": "timm",
            "input_size": (3, size, size),
            "interpolation": "bicubic",
            "crop_pct": crop,
            "crop_mode": "center",
            "mean": HALF,
            "std": HALF,
        }
    )
