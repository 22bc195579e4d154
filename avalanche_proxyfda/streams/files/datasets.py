"""Data sets by name: torchvision's, folders of images, and packs, each with three splits."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path

from avalanche_proxyfda.streams.files.folders import read_folders
from avalanche_proxyfda.streams.files.labelled import DataSet
from avalanche_proxyfda.streams.files.packs import read_pack
from avalanche_proxyfda.streams.files.splits import Splits, with_three_splits
from avalanche_proxyfda.streams.files.torchvision_sets import (
    TORCHVISION,
    groups_of,
    read_torchvision,
)


def load(
    name: str, root: Path, validation_share: float = 0.1, seed: int = 0, download: bool = False
) -> DataSet:
    """Load a data set by name.

    Args:
        name: a key of :data:`~avalanche_proxyfda.streams.files.torchvision_sets.TORCHVISION`;
            ``"npz:FILE"`` for a pack; or ``"folder:FOLDER"`` for a folder with ``train/``,
            ``test/`` and perhaps ``val/``, each with a folder a class. FILE and FOLDER may be
            relative to ``root``.
        root: folder of the data sets.
        validation_share: share of each class's training images that become validation images
            if no validation split is published.
        seed: seed of that choice.
        download: True lets torchvision download missing files.

    Raises:
        ValueError: if the name is unknown (the message lists near names), a label has no class
            or a class no image, or the share is outside (0, 0.5].
        FileNotFoundError: if the data set is not at its place; the message names the place.
    """
    if not 0 < validation_share <= 0.5:
        raise ValueError(f"validation_share={validation_share} must lie in (0, 0.5]")
    kind, _, place = name.partition(":")
    groups: Sequence[str] | None = None
    if kind == "npz" and place:
        train, test, classes, _ = read_pack(root / place)
        splits: Splits = {"train": (train, train.targets), "test": (test, test.targets)}
    elif kind == "folder" and place:
        splits, classes = read_folders(root / place)
    elif name in TORCHVISION:
        splits, classes = read_torchvision(name, root, download)
        groups = groups_of(name, splits["train"][0]) if "train" in splits else None
    else:
        near = difflib.get_close_matches(name, TORCHVISION, n=3)
        raise ValueError(
            f"name={name!r} is unknown; "
            + (f"near ones: {', '.join(near)}; " if near else "")
            + "give one of torchvision's, 'npz:FILE' or 'folder:FOLDER'"
        )
    return with_three_splits(name, splits, classes, validation_share, seed, groups)
