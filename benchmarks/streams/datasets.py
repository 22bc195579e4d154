"""Data sets by name: torchvision's, folders of images, and packs, each with three splits."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torchvision
from torch.utils.data import Dataset

from benchmarks.streams.images import ImageFiles, is_image_name, list_hash, scan_items
from benchmarks.streams.packs import read_pack


@dataclass(frozen=True, eq=False)
class Labelled(Dataset[tuple[Any, int]]):
    """Rows of a data set, with labels from 0 and RGB images of PIL."""

    source: Any
    rows: tuple[int, ...]
    targets: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        image = self.source[self.rows[index]][0]
        return image.convert("RGB"), self.targets[index]

    def placed(self) -> list[tuple[str, int]]:
        """Where each image comes from (``class/file``, or its row there), and its label."""
        paths = getattr(self.source, "paths", None)

        def where(row: int) -> str:
            return str(row) if paths is None else "/".join(paths[row].parts[-2:])

        return [(where(r), label) for r, label in zip(self.rows, self.targets, strict=True)]

    def without(self, places: Container[int]) -> Labelled:
        """All but the images at ``places``."""
        kept = [k for k in range(len(self)) if k not in places]
        return Labelled(
            self.source, tuple(self.rows[k] for k in kept), tuple(self.targets[k] for k in kept)
        )


@dataclass(frozen=True, eq=False)
class DataSet:
    """One data set.

    Attributes:
        name: as it was asked for.
        classes: names by label.
        train: without the validation rows.
        validation: to choose settings by.
        test: to report.
        note: where validation and test come from.
    """

    name: str
    classes: tuple[str, ...]
    train: Labelled
    validation: Labelled
    test: Labelled
    note: str

    @property
    def sha256(self) -> str:
        """Identity of the splits: of which rows are in which, and their labels."""
        return list_hash(
            [
                f"{split} {where} {label}"
                for split in SPLITS
                for where, label in getattr(self, split).placed()
            ]
        )


SPLITS = ("train", "validation", "test")
Splits = dict[str, tuple[Any, Sequence[int]]]


@dataclass(frozen=True)
class _Kind:
    """How torchvision's class is asked for its splits, and where its labels are."""

    splits: dict[str, dict[str, Any]]
    labels: Callable[[Any], Sequence[int]]
    classes: Callable[[Any], Sequence[str]]
    groups: Callable[[Any], Sequence[str]] | None = None  # rows that must not be parted


def _tracks(data: Any) -> list[str]:
    """GTSRB: which sign each frame was taken of; files are called ``<track>_<frame>.ppm``."""
    return [f"{Path(path).parent.name}/{Path(path).name[:5]}" for path, _ in data._samples]


def _pairs(data: Any) -> list[int]:
    return [int(label) for _, label in data._samples]


_BY_TRAIN = {"train": {"train": True}, "test": {"train": False}}
_BY_SPLIT = {"train": {"split": "train"}, "test": {"split": "test"}}
_WITH_VAL = {**_BY_SPLIT, "validation": {"split": "val"}}
_WHOLE: dict[str, dict[str, Any]] = {"all": {}}


def _attribute(name: str) -> Callable[[Any], Any]:
    return lambda data: getattr(data, name)


def _numbered(count: int) -> Callable[[Any], Sequence[str]]:
    return lambda data: [str(k) for k in range(count)]


_TARGETS, _LABELS, _HIDDEN = (_attribute(n) for n in ("targets", "labels", "_labels"))
_CLASSES = _attribute("classes")
TORCHVISION: dict[str, _Kind] = {
    "CIFAR10": _Kind(_BY_TRAIN, _TARGETS, _CLASSES),
    "CIFAR100": _Kind(_BY_TRAIN, _TARGETS, _CLASSES),
    "MNIST": _Kind(_BY_TRAIN, _TARGETS, _CLASSES),
    "FashionMNIST": _Kind(_BY_TRAIN, _TARGETS, _CLASSES),
    "KMNIST": _Kind(_BY_TRAIN, _TARGETS, _CLASSES),
    "SVHN": _Kind(_BY_SPLIT, _LABELS, _numbered(10)),
    "STL10": _Kind(_BY_SPLIT, _LABELS, _CLASSES),
    "DTD": _Kind(_WITH_VAL, _HIDDEN, _CLASSES),
    "Flowers102": _Kind(_WITH_VAL, _HIDDEN, _numbered(102)),
    "GTSRB": _Kind(_BY_SPLIT, _pairs, _numbered(43), _tracks),
    "StanfordCars": _Kind(_BY_SPLIT, _pairs, _CLASSES),
    "Food101": _Kind(_BY_SPLIT, _HIDDEN, _CLASSES),
    "OxfordIIITPet": _Kind(
        {"train": {"split": "trainval"}, "test": {"split": "test"}}, _HIDDEN, _CLASSES
    ),
    "FGVCAircraft": _Kind(_WITH_VAL, _HIDDEN, _CLASSES),
    "EuroSAT": _Kind(_WHOLE, _TARGETS, _CLASSES),
    "SUN397": _Kind(_WHOLE, _HIDDEN, _CLASSES),
    "Caltech101": _Kind(_WHOLE, _attribute("y"), _attribute("categories")),
}


def load(
    name: str, root: Path, validation_share: float = 0.1, seed: int = 0, download: bool = False
) -> DataSet:
    """A data set by name.

    Args:
        name: one of :data:`TORCHVISION`, ``"npz:FILE"`` (a pack), or ``"folder:FOLDER"`` with
            ``train/`` and ``test/`` (and ``val/``, if there is one), each with a folder a class.
            FILE and FOLDER may be relative to ``root``.
        root: where data sets are.
        validation_share: of each class's training images, where there is no validation split.
        seed: of the validation split, where we make it.
        download: let torchvision fetch what is missing.

    Raises:
        ValueError: for an unknown name, near ones named; labels with holes; a share out of
            (0, 0.5].
        FileNotFoundError: when the data set is not there; says where it was looked for.
    """
    if not 0 < validation_share <= 0.5:
        raise ValueError(f"validation_share={validation_share} must lie in (0, 0.5]")
    kind, _, place = name.partition(":")
    groups: Sequence[str] | None = None
    if kind == "npz" and place:
        train, test, classes, _ = read_pack(root / place)
        splits: Splits = {"train": (train, train.targets), "test": (test, test.targets)}
    elif kind == "folder" and place:
        splits, classes = _folders(root / place)
    elif name in TORCHVISION:
        splits, classes = _torchvision(name, root, download)
        by = TORCHVISION[name].groups
        groups = None if by is None else by(splits["train"][0])
    else:
        near = difflib.get_close_matches(name, TORCHVISION, n=3)
        raise ValueError(
            f"name={name!r} is unknown; "
            + (f"near ones: {', '.join(near)}; " if near else "")
            + "give one of torchvision's, 'npz:FILE' or 'folder:FOLDER'"
        )
    return _with_three_splits(name, splits, classes, validation_share, seed, groups)


def _torchvision(name: str, root: Path, download: bool) -> tuple[Splits, tuple[str, ...]]:
    kind, build = TORCHVISION[name], getattr(torchvision.datasets, name)
    if download and "download" not in inspect.signature(build).parameters:
        raise ValueError(f"torchvision cannot download {name}: put it under {root} by hand")
    splits: Splits = {}
    for split, options in kind.splits.items():
        try:
            data = build(str(root), **options, **({"download": True} if download else {}))
        except RuntimeError as error:
            raise FileNotFoundError(
                f"{name} ({split}) is not under {root}: {error}; pass download=True on a machine "
                "with a network"
            ) from error
        splits[split] = (data, [int(y) for y in kind.labels(data)])
    return splits, tuple(str(c) for c in kind.classes(data))


def _folders(folder: Path) -> tuple[Splits, tuple[str, ...]]:
    names: list[str] | None = None
    splits: Splits = {}
    for split, part in (("train", "train"), ("validation", "val"), ("test", "test")):
        inside = folder / part
        if not inside.is_dir():
            if split == "validation":
                continue
            raise FileNotFoundError(f"{inside} is not there: a folder needs train/ and test/")
        own = sorted(e.name for e in inside.iterdir() if e.is_dir())
        names = names or own
        if own != names or len(own) < 2:
            raise ValueError(
                f"{inside} has the classes {', '.join(own[:5]) or 'none'}; train/ has "
                f"{', '.join(names[:5])}: all parts need the same, two at least"
            )
        files = [
            (path, label)
            for label, name in enumerate(own)
            for path in sorted((inside / name).iterdir())
            if is_image_name(path.name)
        ]
        labels = [label for _, label in files]
        if len(set(labels)) < len(own):
            raise ValueError(f"{inside} has a class without images")
        splits[split] = (ImageFiles([path for path, _ in files], labels), labels)
    return splits, tuple(names or ())


def _held(
    labels: Sequence[int], share: float, seed: int, groups: Sequence[str] | None = None
) -> set[int]:
    """Rows of about ``share`` of each class, at least one where there are two; repeatable.

    Rows of one group stay together, and a class keeps one group at least.
    """
    rng, held = np.random.default_rng((seed, 20260)), set()
    array = np.asarray(labels)
    names = np.arange(len(array)) if groups is None else np.asarray(groups)
    for label in np.unique(array):
        rows = np.flatnonzero(array == label)
        own = rng.permutation(np.unique(names[rows]))
        count = max(1, round(share * len(own))) if len(own) > 1 else 0
        held |= {int(r) for r in rows[np.isin(names[rows], own[:count])]}
    return held


def without_broken(data: DataSet) -> tuple[DataSet, dict[str, str]]:
    """The data set without the images that cannot be read, and what was wrong with each.

    Raises:
        ValueError: when a class has no training image left.
    """
    reasons = broken(data)
    parts = {split: getattr(data, split).without(found) for split, found in reasons.items()}
    empty = [split for split, part in parts.items() if not len(part)]
    if empty:
        raise ValueError(f"{data.name}: no readable image is left for {', '.join(empty)}")
    lost = sorted(set(range(len(data.classes))) - set(parts["train"].targets))
    if lost:
        raise ValueError(f"{data.name}: no readable training image of the classes {lost[:5]}")
    told = {}
    for split, found in reasons.items():
        places = getattr(data, split).placed()
        told |= {f"{data.name} {split} {places[k][0]}": reason for k, reason in found.items()}
    return replace(data, **parts), told


def broken(data: DataSet) -> dict[str, dict[int, str]]:
    """Of each split, the places of the images that cannot be read, and why; reads them all."""
    return {split: scan_items(getattr(data, split), f"{data.name} {split}") for split in SPLITS}


def _with_three_splits(
    name: str,
    splits: Splits,
    classes: tuple[str, ...],
    share: float,
    seed: int,
    groups: Sequence[str] | None,
) -> DataSet:
    note = "validation and test as published"
    if "all" in splits:  # nothing is published: a fifth is held for the test
        data, labels = splits["all"]
        test = _held(labels, 0.2, 0)  # whatever the seed, so that no seed is tuned on it
        rest = [r for r in range(len(labels)) if r not in test]
        made = {"test": _part(data, labels, sorted(test))}
        note = "test: a fifth of each class, ours; validation: ours"
    else:
        data, labels = splits["train"]
        rest = list(range(len(labels)))
        made = {"test": _part(*splits["test"], range(len(splits["test"][1])))}
    if "validation" in splits:
        made["validation"] = _part(*splits["validation"], range(len(splits["validation"][1])))
    else:
        own = None if groups is None else [groups[r] for r in rest]
        inside = _held([labels[r] for r in rest], share, seed, own)
        made["validation"] = _part(data, labels, [rest[k] for k in sorted(inside)])
        rest = [r for k, r in enumerate(rest) if k not in inside]
        note = note if "all" in splits else "test as published; validation: of train, ours"
        if groups is not None:
            note += ", whole tracks"
    made["train"] = _part(data, labels, rest)
    for split, part in made.items():
        if not len(part):
            raise ValueError(f"{name} has no image for {split}: its classes have too few")
        holes = sorted(set(range(len(classes))) - set(part.targets))
        beyond = sorted(set(part.targets) - set(range(len(classes))))
        if beyond or (holes and split == "train"):
            what = (
                f"labels {beyond[:5]} beyond its" if beyond else f"no image of {holes[:5]} of its"
            )
            raise ValueError(f"{name} ({split}) has {what} {len(classes)} classes")
    return DataSet(name, classes, made["train"], made["validation"], made["test"], note)


def _part(data: Any, labels: Sequence[int], rows: Sequence[int]) -> Labelled:
    return Labelled(data, tuple(rows), tuple(int(labels[r]) for r in rows))
