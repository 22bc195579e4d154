"""Split ImageNet-R: 200 classes of renditions, learnt a group of classes at a time."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmarks.streams.archives import extract, is_extracted
from benchmarks.streams.imagenet_r_splits import (
    CLASSES,
    CODA_COUNTS,
    IMAGES,
    Lists,
    class_folders,
    coda,
    hash80,
    held_out,
    is_split,
    presplit,
)
from benchmarks.streams.images import MAX_PIXELS, ImageFiles, is_image_name, scan

SplitName = Literal["hash80", "coda", "presplit"]
OnCorrupt = Literal["raise", "drop"]
Order = str | Sequence[int]


def class_order(order: Order, lists: Lists) -> list[int]:
    """Class ids (places among the sorted WordNet ids) in the order that they are learnt.

    Args:
        order: ``"pilot-SEED"``, NumPy's legacy permutation, as the PILOT family does (1993 is
            its default); ``"coda-RUN"``, Python's shuffle of CODA-Prompt's own class
            numbers (run 0 leaves them), which needs its lists; ``"identity"``; or all class
            ids.
        lists: the split.

    Raises:
        ValueError: for another name, or ids that are not each class once.
    """
    count = len(lists.wnids)
    if not isinstance(order, str):
        ids = [int(k) for k in order]
        if sorted(ids) != list(range(count)):
            raise ValueError(f"order must hold each class id from 0 to {count - 1} once")
        return ids
    if order == "identity":
        return list(range(count))
    kind, _, number = order.partition("-")
    if kind not in ("pilot", "coda") or not number.isdigit():
        raise ValueError(
            f"order={order!r} is unknown; choose 'pilot-SEED' (as 'pilot-1993'), 'coda-RUN', "
            "'identity', or give all class ids"
        )
    if kind == "pilot":
        legacy = np.random.RandomState(int(number))
        return [int(k) for k in legacy.permutation(count)]
    if lists.coda_ids is None:
        raise ValueError(f"order={order!r} is over CODA-Prompt's class numbers: use split='coda'")
    theirs = list(range(count))
    if int(number) > 0:
        random.Random(int(number)).shuffle(theirs)
    ours = {their: own for own, their in enumerate(lists.coda_ids)}
    return [ours[k] for k in theirs]


def find_root(root: Path | str) -> Path:
    """The folder that holds the classes, or ``train`` and ``test``; archives are extracted.

    Raises:
        FileNotFoundError: when nothing of that kind is at ``root``; says what is.
    """
    root = Path(root)
    if root.is_file():
        into = root.with_name(root.name.split(".tar")[0] + "-extracted")
        root = into if is_extracted(root, into) else extract(root, into)
    for folder in (root, root / "imagenet-r", root / "imagenet-r" / "imagenet-r"):
        if folder.is_dir() and (class_folders(folder) or is_split(folder)):
            return folder
    if not root.exists():
        raise FileNotFoundError(
            f"root={str(root)!r} does not exist: give imagenet-r.tar, the folder imagenet-r/ with "
            f"{CLASSES} folders called n01443537 and so on, or a folder with train/ and test/"
        )
    inside = sorted(entry.name for entry in root.iterdir())[:5] if root.is_dir() else []
    raise FileNotFoundError(
        f"root={str(root)!r} holds no folder called like n01443537, and no train/ and test/ with "
        f"such folders; it holds {', '.join(inside) or 'nothing'}"
    )


def image_paths(root: Path | str) -> list[Path]:
    """All images under the class folders of ``root``, whatever the split."""
    folder = find_root(root)
    parts = [folder / "train", folder / "test"] if is_split(folder) else [folder]
    return [
        path
        for part in parts
        for wnid in class_folders(part)
        for path in sorted((part / wnid).iterdir())
        if is_image_name(path.name)
    ]


def split_imagenet_r(
    root: Path | str,
    num_experiences: int = 10,
    split: SplitName | None = None,
    order: Order = "pilot-1993",
    lists: tuple[Path | str, Path | str] | None = None,
    train_transform: Callable[[Any], Any] | None = None,
    eval_transform: Callable[[Any], Any] | None = None,
    on_corrupt: OnCorrupt = "raise",
    max_pixels: int = MAX_PIXELS,
    classes: int = CLASSES,
    validation_share: float = 0.0,
) -> Any:
    """An Avalanche benchmark of ImageNet-R in ``num_experiences`` groups of classes.

    Labels are numbered in the order of learning, and there is no task label: one head that
    grows fits. What was built is in the benchmark's ``summary``; its ``validation_stream`` has
    the held-out training images, or is None.

    Args:
        root: ``imagenet-r.tar``, the folder with 200 class folders, or one with ``train/``
            and ``test/``.
        num_experiences: a divisor of the number of classes; 10 is the standard.
        split: ``"presplit"`` (the folders' own), ``"coda"`` (CODA-Prompt's lists), or
            ``"hash80"`` (:func:`hash80`, ours); None takes ``presplit`` where there are such
            folders, and ``hash80`` else.
        order: see :func:`class_order`.
        lists: CODA-Prompt's YAML files of train and test.
        train_transform: of images in training; gets RGB images of PIL.
        eval_transform: of images in evaluation.
        on_corrupt: ``"raise"`` stops with the path when a broken image is met; ``"drop"``
            reads all images once before, leaves broken ones out, and notes them.
        max_pixels: images above it are broken.
        classes: how many there must be; for miniatures.
        validation_share: of each class's training images, those with the smallest hash of
            their name; they are not trained on. Zero for figures to compare with others'.

    Raises:
        FileNotFoundError, ValueError: when the files are not what they should be.
    """
    from avalanche.benchmarks import nc_benchmark

    if num_experiences < 1 or classes % num_experiences:
        raise ValueError(
            f"num_experiences={num_experiences} must divide the {classes} classes: 5, 10, 20, 40 …"
        )
    if split not in (None, "hash80", "coda", "presplit"):
        raise ValueError(f"split={split!r} is unknown; choose 'hash80', 'coda' or 'presplit'")
    if on_corrupt not in ("raise", "drop"):
        raise ValueError(f"on_corrupt={on_corrupt!r} is unknown; choose 'raise' or 'drop'")
    if not 0 <= validation_share <= 0.5:
        raise ValueError(f"validation_share={validation_share} must lie in [0, 0.5]")
    folder = find_root(root)
    split = split or ("presplit" if is_split(folder) else "hash80")
    if split == "coda":
        if lists is None:
            raise ValueError("split='coda' needs lists=(TRAIN.yaml, TEST.yaml), CODA-Prompt's own")
        counts = CODA_COUNTS if classes == CLASSES else None
        made = coda(folder, (Path(lists[0]), Path(lists[1])), classes, counts)
    elif split == "presplit":
        if not is_split(folder):
            raise ValueError(f"split='presplit' needs train/ and test/ in {folder}")
        made = presplit(folder, classes)
    else:
        if is_split(folder):
            raise ValueError(f"{folder} is split already: split='hash80' needs the plain folders")
        made = hash80(folder, classes)
    learnt = class_order(order, made)
    found = len(made.train) + len(made.test)
    if classes == CLASSES and found != IMAGES:
        warnings.warn(
            f"{folder} holds {found} images, ImageNet-R has {IMAGES}: results are comparable with "
            "the same files only (split_sha256 says which)",
            stacklevel=2,
        )
    dropped: dict[Path, str] = {}
    pairs = {"train": made.train, "test": made.test}
    if on_corrupt == "drop":
        dropped = scan([path for part in pairs.values() for path, _ in part], max_pixels)
        pairs = {n: tuple(p for p in part if p[0] not in dropped) for n, part in pairs.items()}
        made = replace(made, train=pairs["train"], test=pairs["test"])
    if validation_share:
        pairs["validation"], pairs["train"] = held_out(made.train, validation_share, "validation")
    sets = {
        name: ImageFiles([p for p, _ in part], [k for _, k in part], max_pixels)
        for name, part in pairs.items()
    }
    for name, data in sets.items():
        if set(data.targets) != set(range(classes)):
            missing = sorted(set(range(classes)) - set(data.targets))
            raise ValueError(
                f"no usable {name} image of {', '.join(made.wnids[k] for k in missing[:5])}"
                + (": take validation_share=0" if name == "validation" else "")
            )

    def build(evaluated: ImageFiles) -> Any:
        return nc_benchmark(
            sets["train"], evaluated, num_experiences, task_labels=False, shuffle=False,
            fixed_class_order=learnt, class_ids_from_zero_from_first_exp=True,
            train_transform=train_transform, eval_transform=eval_transform,
        )  # fmt: skip

    benchmark = build(sets["test"])
    held = sets.get("validation")
    benchmark.validation_stream = None if held is None else build(held).test_stream
    benchmark.summary = {
        "stream": "split-imagenet-r",
        "split": split,
        "split_sha256": made.sha256,
        "order": order if isinstance(order, str) else "explicit",
        "class_order": learnt,
        "wnids": [made.wnids[k] for k in learnt],
        "num_experiences": num_experiences,
        "train": len(sets["train"]),
        "validation": len(sets["validation"]) if "validation" in sets else 0,
        "test": len(sets["test"]),
        "dropped": {str(path.relative_to(folder)): reason for path, reason in dropped.items()},
    }
    return benchmark
