"""Data sets by name: torchvision's, folders of images, and packs, each with three splits."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

from avalanche_proxyfda._files import expanded
from avalanche_proxyfda._names import nearest
from avalanche_proxyfda.streams.files.folders import read_folders
from avalanche_proxyfda.streams.files.labelled import DataSet
from avalanche_proxyfda.streams.files.left_out import LeftOutWarning
from avalanche_proxyfda.streams.files.lists import read_lists
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

    A file that is left out, or a class without test images, gives a
    :class:`~avalanche_proxyfda.streams.files.left_out.LeftOutWarning` with its remedy.

    Args:
        name: a key of :data:`~avalanche_proxyfda.streams.files.torchvision_sets.TORCHVISION`;
            ``"npz:FILE"`` for a pack; or ``"folder:FOLDER"`` for a folder of photographs, see
            :func:`~avalanche_proxyfda.streams.files.folders.read_folders`; or
            ``"lists:FOLDER/NAME"`` for two list files, see
            :func:`~avalanche_proxyfda.streams.files.lists.read_lists`. FILE and FOLDER may be
            relative to ``root``; ``~`` is the home folder.
        root: folder of the data sets.
        validation_share: share of each class's training images that become validation images
            if no validation split is published; 0 for no validation split, also where one is
            published.
        seed: seed of that choice.
        download: True lets torchvision download missing files.

    Raises:
        ValueError: if the name is unknown (the message lists near names), a label has no class
            or a class no image, or the share is outside [0, 0.5].
        FileNotFoundError: if the data set is not at its place; the message names the place.
    """
    if not 0 <= validation_share <= 0.5:
        raise ValueError(f"validation_share={validation_share} must lie in [0, 0.5]")
    root = expanded(root)
    kind, _, place = name.partition(":")
    if kind == "folder" and place:
        found = read_folders(root / expanded(place), validation_share, seed)
        for notice in found.notices:
            warnings.warn(f"{name}: {notice}", LeftOutWarning, stacklevel=2)
        return with_three_splits(
            name,
            found.splits,
            found.classes,
            validation_share,
            seed,
            note=found.note,
        )
    groups: Sequence[str] | None = None
    if kind == "npz" and place:
        train, test, classes, _ = read_pack(root / expanded(place))
        splits: Splits = {"train": (train, train.targets), "test": (test, test.targets)}
    elif kind == "lists" and place:
        splits, classes = read_lists(root / expanded(place))
    elif name in TORCHVISION:
        splits, classes = read_torchvision(name, root, download)
        groups = groups_of(name, splits["train"][0]) if "train" in splits else None
    else:
        raise ValueError(unknown_set(name, root))
    return with_three_splits(name, splits, classes, validation_share, seed, groups)


def unknown_set(name: str, root: Path, others: tuple[str, ...] = ()) -> str:
    """The message that no data set is called ``name``, with near names.

    Args:
        name: the unknown name.
        root: folder of the data sets; a folder or pack in it is named where it fits.
        others: further names that are known to the caller.
    """
    near = nearest(name, (*TORCHVISION, *others))
    near += [f"{kind}:{name}" for kind, there in (("folder", (root / name).is_dir()),) if there]
    packs = (path for path in (root / name, root / f"{name}.npz") if path.suffix == ".npz")
    near += [f"npz:{path.name}" for path in packs if path.is_file()]
    return (
        f"name={name!r} is unknown; "
        + (f"near ones: {', '.join(near)}; " if near else "")
        + (f"give one of {', '.join(others)}, or " if others else "give ")
        + "one of torchvision's, 'npz:FILE', 'folder:FOLDER' or 'lists:FOLDER/NAME'"
    )
