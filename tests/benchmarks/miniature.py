"""Small image sets in the layouts of the real ones, written to a folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def imagenet_wnids(count: int = 200) -> list[str]:
    """WordNet ids that ImageNet has, sorted."""
    from timm.data import ImageNetInfo

    return sorted(ImageNetInfo().label_names())[:count]


def write_imagenet_r(root: Path, wnids: list[str], images: int = 4) -> None:
    """A folder a class, with pictures whose colour and pattern the class decides."""
    for k, wnid in enumerate(wnids):
        rng = np.random.default_rng(k)
        base = rng.integers(0, 255, (4, 4, 3))
        (root / wnid).mkdir(parents=True)
        for n in range(images):
            noise = np.random.default_rng((k, n)).integers(-20, 20, (4, 4, 3))
            pixels = np.clip(base + noise, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).resize((40, 36), 0).save(root / wnid / f"art_{n}.png")


def write_folder(
    root: Path, classes: list[str], size: tuple[int, int], mode: str, seed: int, images: int = 12
) -> None:
    """``train/`` and ``test/`` of a folder a class; stripes by class, of one size and mode."""
    for part, count in (("train", images), ("test", max(2, images // 3))):
        for k, name in enumerate(classes):
            folder = root / part / name
            folder.mkdir(parents=True)
            for n in range(count):
                rng = np.random.default_rng((seed, k, n, count))
                pixels = rng.integers(0, 90, (size[1], size[0], 3))
                pixels[:: k + 2] += 120
                image = Image.fromarray(pixels.astype(np.uint8)).convert(mode)
                image.save(folder / f"{n:03d}.png")
