"""The embedded stream ``concepts``: eight small data sets, nothing to download.

Seven data sets are drawn (:mod:`benchmarks.streams.concepts.render`). ``digits`` are the 1 797 real
handwritten digits that scikit-learn ships. A run learns four data sets one after the other,
each with its own label space: the digits, and three that look worn. No image of the
pre-training corpus looks worn. The other four data sets are the panel: the model never trains
on them, and they show what it forgets. Other runs may learn other sets: concepts-mtil learns six.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits
from torch import Tensor
from torch.utils.data import Dataset

from avalanche_proxyfda._names import nearest
from avalanche_proxyfda.streams.files.images import list_hash
from benchmarks.config import SEQUENCE
from benchmarks.streams.concepts.render import KINDS, SIZE, class_names, draw, wear

Split = Literal["train", "validation", "test"]
PANEL = ("shapes", "colours", "latin", "printed")
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
COUNTS: dict[Split, int] = {"train": 800, "validation": 250, "test": 400}
PANEL_TRAIN = 500  # enough for a probe
EMBEDDED = ("digits", *KINDS)
"""Names of all embedded data sets."""

_PART: dict[Split, int] = {"train": 1, "validation": 2, "test": 3}  # 0: the pre-training corpus


@dataclass(frozen=True, eq=False)  # Avalanche puts data sets into sets: compared by identity
class ImageSet(Dataset[tuple[Tensor, int]]):
    """One split of one data set, in memory.

    Attributes:
        name: name of the data set.
        images: [N, 3, 32, 32] float32 in [-1, 1], inputs of the embedded model.
        targets: [N] labels from 0.
        classes: phrase for each class, by label.
    """

    name: str
    images: Tensor
    targets: list[int]
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.images[index], self.targets[index]


def concept(name: str, split: Split, train_images: int | None = None) -> ImageSet:
    """One split of the data set ``name``; the splits share no image.

    Args:
        name: one of :data:`EMBEDDED`.
        split: one of :data:`SPLITS`.
        train_images: size of the split ``"train"``; None takes the usual one. Another size gives
            other drawings.

    Raises:
        ValueError: if the name or the split is unknown, or more digits are asked for than there
            are.
    """
    if split not in COUNTS:
        raise ValueError(f"split={split!r} is unknown; choose one of {tuple(COUNTS)}")
    return _concept(name, split, train_images if split == "train" else None)


@cache
def _concept(name: str, split: Split, asked: int | None) -> ImageSet:
    if name == "digits":
        pixels, labels = _digits(split, asked)
    elif name in KINDS:
        pixels, labels = _drawn(name, split, asked)
    else:
        near = nearest(name, EMBEDDED, 1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"name={name!r} is unknown; {hint}choose one of {EMBEDDED}")
    images = to_input(torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy()))
    return ImageSet(name, images, labels, class_names(name))


@cache
def embedded_hash(name: str, train_images: int | None = None) -> str:
    """Identity of an embedded data set: a hash over its labels.

    Pixels do not count: they are drawn, and their last bit differs between machines.
    """
    parts = {split: concept(name, split, train_images) for split in SPLITS}
    return list_hash([f"{s} {k} {y}" for s in SPLITS for k, y in enumerate(parts[s].targets)])


def _drawn(name: str, split: Split, asked: int | None) -> tuple[NDArray[np.uint8], list[int]]:
    rng = np.random.default_rng((20260, _PART[split], KINDS.index(name)))
    classes = len(class_names(name))
    usual = PANEL_TRAIN if name in PANEL and split == "train" else COUNTS[split]
    count = usual if asked is None else asked
    labels = [int(k) for k in rng.permutation(np.arange(count) % classes)]
    pictures = [draw(name, label, rng).pixels for label in labels]
    if name in SEQUENCE:
        pictures = [wear(pixels, rng) for pixels in pictures]
    return np.stack(pictures), labels


def _digits(split: Split, asked: int | None) -> tuple[NDArray[np.uint8], list[int]]:
    count = COUNTS[split] if asked is None else asked
    if count > COUNTS[split]:
        raise ValueError(
            f"stream.train_images={count}: digits are handwritten, and there are {COUNTS[split]} "
            "of them to train on; lower the number, or leave digits out of stream.sets"
        )
    bundle: Any = load_digits()
    order = np.random.default_rng(20260).permutation(len(bundle.target))
    start = sum(COUNTS[s] for s in ("train", "validation") if _PART[s] < _PART[split])
    rows = order[start : start + count]
    pixels = []
    for image in bundle.images[rows]:
        grey = Image.fromarray((image * 15.9375).astype(np.uint8))
        large = grey.resize((SIZE, SIZE), Image.Resampling.BILINEAR)
        pixels.append(np.asarray(large.convert("RGB")))
    return np.stack(pixels), [int(k) for k in bundle.target[rows]]


def concepts(
    evaluate_on: Split = "test",
    sequence: tuple[str, ...] = SEQUENCE,
    train_images: int | None = None,
) -> Any:
    """Build an Avalanche benchmark with one experience and one task for each data set.

    Args:
        evaluate_on: split of the test stream; ``"validation"`` for choosing settings.
        sequence: names of data sets, in the order of learning.
        train_images: training images of each data set; None takes the usual number.

    Raises:
        ValueError: if a name is unknown, or more digits are asked for than there are.
    """
    from avalanche.benchmarks import (
        benchmark_from_datasets,
        task_incremental_benchmark,
        with_classes_timeline,
    )
    from avalanche.benchmarks.utils import as_classification_dataset

    def stream(split: Split) -> list[Any]:
        sets = [concept(name, split, train_images) for name in sequence]
        return [as_classification_dataset(each) for each in sets]

    plain = benchmark_from_datasets(train=stream("train"), test=stream(evaluate_on))
    return with_classes_timeline(task_incremental_benchmark(plain))


def to_input(pixels: Tensor) -> Tensor:
    """Convert uint8 pixels [..., 3, 32, 32] to inputs of tiny-clip, float32 in [-1, 1]."""
    return pixels.float() / 127.5 - 1.0
