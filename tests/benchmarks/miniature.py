"""Small image sets in the layouts of the real ones, written to a folder, and runs on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.config import Config, read
from benchmarks.models.backbone import build_backbone, build_views


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


def config(data: Path, **changes: Any) -> Config:
    content: dict[str, Any] = {
        "train": {"lr": 1e-4, "batch": 32, "eval_batch": 50},
        "panel": {"sets": ["colours"], "train": 60, "test": 40},
        "head": {"kind": "probe", "l2": 1e-3},
        "where": {"data": str(data), "device": "cpu"},
        **changes,
    }
    return read(content)


def imagenet_r(data: Path, experiences: int = 5, **changes: Any) -> Config:
    stream = {"kind": "imagenet-r", "num_experiences": experiences, "validation_share": 0.34}
    return config(data, stream=stream, **changes)


def views_of(made: Config) -> Any:
    return build_views(made, build_backbone(made))
