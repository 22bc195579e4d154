"""Data sets of torchvision: their splits, labels and class names."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torchvision

from avalanche_proxyfda.streams.files.splits import Splits
from avalanche_proxyfda.streams.files.torchvision_folders import leave_out_hidden, visible_classes


@dataclass(frozen=True)
class _Kind:
    """How a class of torchvision is read.

    Attributes:
        splits: arguments of the class, by split.
        labels: returns the labels of a split.
        classes: returns the class names by label.
        groups: returns a group for each row; a group is never divided between splits.
    """

    splits: dict[str, dict[str, Any]]
    labels: Callable[[Any], Sequence[int]]
    classes: Callable[[Any], Sequence[str]]
    groups: Callable[[Any], Sequence[str]] | None = None


def _tracks(data: Any) -> list[str]:
    """The sign of GTSRB that each frame shows; files are named ``<track>_<frame>.ppm``."""
    return [f"{Path(path).parent.name}/{Path(path).name[:5]}" for path, _ in data._samples]


def _pairs(data: Any) -> list[int]:
    return [int(label) for _, label in data._samples]


def _emotions(data: Any) -> list[int]:
    """Labels of FER2013, whose file ``test.csv`` has none."""
    if any(label is None for _, label in data._samples):
        raise ValueError(
            "FER2013: test.csv has no labels; put fer2013.csv or icml_face_data.csv beside it"
        )
    return _pairs(data)


_EMOTIONS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
"""Classes of FER2013 by label, as its authors list them (Goodfellow et al., 2013)."""


_BY_TRAIN = {"train": {"train": True}, "test": {"train": False}}
_BY_SPLIT = {"train": {"split": "train"}, "test": {"split": "test"}}
_WITH_VAL = {**_BY_SPLIT, "validation": {"split": "val"}}
_VALID = {**_BY_SPLIT, "validation": {"split": "valid"}}
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
    "Country211": _Kind(_VALID, _TARGETS, _CLASSES),
    "FER2013": _Kind(_BY_SPLIT, _emotions, lambda data: _EMOTIONS),
    "RenderedSST2": _Kind(_WITH_VAL, _pairs, _CLASSES),
}


def read_torchvision(name: str, root: Path, download: bool) -> tuple[Splits, tuple[str, ...]]:
    """Splits and class names of a data set of torchvision.

    Args:
        name: key of :data:`TORCHVISION`.
        root: folder of the data sets.
        download: True lets torchvision download missing files.

    Raises:
        ValueError: if ``download`` is True and torchvision cannot download the data set, hidden
            files are in its way, or its files have no labels.
        FileNotFoundError: if the data set is not under ``root``.
    """
    kind, build = TORCHVISION[name], getattr(torchvision.datasets, name)
    if download and "download" not in inspect.signature(build).parameters:
        raise ValueError(f"torchvision cannot download {name}: put it under {root} by hand")
    splits: Splits = {}
    for split, options in kind.splits.items():
        try:
            with visible_classes():
                data = build(str(root), **options, **({"download": True} if download else {}))
        except (KeyError, NotADirectoryError) as error:  # of SUN397 and Caltech101
            raise ValueError(
                f"torchvision cannot read {name} under {root} ({error}): remove hidden files and "
                "folders, such as .DS_Store and .ipynb_checkpoints, from it"
            ) from error
        except RuntimeError as error:
            raise FileNotFoundError(
                f"{name} ({split}) is not under {root}: {error}; pass download=True on a machine "
                "with a network"
            ) from error
        leave_out_hidden(name, data)
        splits[split] = (data, [int(y) for y in kind.labels(data)])
    return splits, tuple(str(c) for c in kind.classes(data))


def groups_of(name: str, data: Any) -> Sequence[str] | None:
    """Group of each row of a data set of torchvision; None if rows have no groups."""
    groups = TORCHVISION[name].groups
    return None if groups is None else groups(data)
