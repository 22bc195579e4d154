"""Data sets in folders: ``train/``, ``test/`` and perhaps ``val/``, each with a folder a class."""

from __future__ import annotations

from pathlib import Path

from avalanche_proxyfda.streams.files.images import ImageFiles, is_image_name
from avalanche_proxyfda.streams.files.splits import Splits


def read_folders(folder: Path) -> tuple[Splits, tuple[str, ...]]:
    """Splits and class names of a data set in folders.

    Raises:
        FileNotFoundError: if ``train/`` or ``test/`` is missing.
        ValueError: if the parts have different classes, there are fewer than two classes, or a
            class has no image.
    """
    classes: list[str] | None = None
    splits: Splits = {}
    for split, part in (("train", "train"), ("validation", "val"), ("test", "test")):
        inside = folder / part
        if not inside.is_dir():
            if split == "validation":
                continue
            raise FileNotFoundError(f"{inside} is not there: a folder needs train/ and test/")
        names = sorted(e.name for e in inside.iterdir() if e.is_dir())
        classes = classes or names
        if names != classes or len(names) < 2:
            raise ValueError(
                f"{inside} has the classes {', '.join(names[:5]) or 'none'}; train/ has "
                f"{', '.join(classes[:5])}: all parts need the same, two at least"
            )
        files = [
            (path, label)
            for label, name in enumerate(names)
            for path in sorted((inside / name).iterdir())
            if is_image_name(path.name)
        ]
        labels = [label for _, label in files]
        if len(set(labels)) < len(names):
            raise ValueError(f"{inside} has a class without images")
        splits[split] = (ImageFiles([path for path, _ in files], labels), labels)
    return splits, tuple(classes or ())
