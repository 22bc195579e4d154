"""CoOp's split files: JSON lists of training, validation and test images with class names."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from avalanche_proxyfda.streams.files.folder_parts import listed
from avalanche_proxyfda.streams.files.images import ImageFiles
from avalanche_proxyfda.streams.files.splits import Splits

_PARTS = {"train": "train", "validation": "val", "test": "test"}
"""Names of the lists in a file, by split."""


@dataclass(frozen=True, eq=False)
class SplitFile:
    """Contents of a split file.

    Attributes:
        splits: images and labels by split.
        classes: class names by label.
        name: name of the file.
        sha256: hash of the file.
    """

    splits: Splits
    classes: tuple[str, ...]
    name: str
    sha256: str


def read_split_file(file: Path, images: Path) -> SplitFile:
    """Read a split file of Zhou et al. (CoOp, IJCV 2022), such as ``split_zhou_Food101.json``.

    The file maps ``train``, ``val`` and ``test`` to lists of ``[path, label, class name]``. No
    image is opened.

    Args:
        file: the split file.
        images: folder to which the paths of the file are relative.

    Raises:
        FileNotFoundError: if the file, the folder or an image of the file is missing.
        ValueError: if the file is no such split: a list or an entry has another form, labels have
            holes, a label has two names or a name two labels, a list has an image twice, or an
            image is in two lists.
    """
    if not file.is_file():
        raise FileNotFoundError(
            f"{file} does not exist: it is one of CoOp's split files, whose addresses are in "
            "DATASETS.md of github.com/KaiyangZhou/CoOp; put it there"
        )
    if not images.is_dir():
        raise FileNotFoundError(f"{images} is no folder: it must hold the images of {file.name}")
    raw = file.read_bytes()
    try:
        content = json.loads(raw)
    except ValueError as error:
        raise ValueError(f"{file} is not JSON: {error}") from error
    if not isinstance(content, dict) or not set(_PARTS.values()) <= set(content):
        raise ValueError(f"{file} is no split file of CoOp: it needs train, val and test")
    lists = {split: _entries(file, part, content[part]) for split, part in _PARTS.items()}
    classes = _classes(file, [entry for entries in lists.values() for entry in entries])
    _check_apart(file, lists)
    absent = [
        path
        for entries in lists.values()
        for path, _, _ in entries
        if not (images / path).is_file()
    ]
    if absent:
        raise FileNotFoundError(
            f"{file.name} lists {len(absent)} images that are not in {images}: {listed(absent)}"
        )
    splits: Splits = {}
    for split, entries in lists.items():
        paths, labels = [images / path for path, _, _ in entries], [k for _, k, _ in entries]
        splits[split] = (ImageFiles(paths, labels, names=[path for path, _, _ in entries]), labels)
    return SplitFile(splits, classes, file.name, hashlib.sha256(raw).hexdigest())


def _entries(file: Path, part: str, entries: Any) -> list[tuple[str, int, str]]:
    if not isinstance(entries, list) or not entries:
        raise ValueError(f"{file}: {part!r} must be a list of images, and not be empty")
    for entry in entries:
        form = isinstance(entry, list) and list(map(type, entry)) == [str, int, str]
        if not form or not _is_below(entry[0]) or entry[1] < 0:
            raise ValueError(
                f"{file}: {part!r} holds {entry!r}; an entry is [path, label, class name], with a "
                "path below the folder of images and a label from 0"
            )
    return [(path, label, name) for path, label, name in entries]


def _is_below(path: str) -> bool:
    parts = PurePosixPath(path)
    return bool(path) and not parts.is_absolute() and ".." not in parts.parts


def _classes(file: Path, entries: list[tuple[str, int, str]]) -> tuple[str, ...]:
    """Class names by label."""
    names: dict[int, str] = {}
    for path, label, name in entries:
        if names.setdefault(label, name) != name:
            raise ValueError(f"{file}: label {label} is {names[label]!r} and, for {path}, {name!r}")
    if sorted(names) != list(range(len(names))):
        holes = sorted(set(range(max(names) + 1)) - set(names))
        raise ValueError(f"{file}: no image has the labels {holes[:5]}; number classes from 0")
    classes = tuple(names[label] for label in range(len(names)))
    twice = sorted({name for name in classes if classes.count(name) > 1})
    if twice:
        raise ValueError(f"{file}: two labels have one class name: {listed(twice)}")
    return classes


def _check_apart(file: Path, lists: dict[str, list[tuple[str, int, str]]]) -> None:
    places: dict[str, str] = {}
    for split, entries in lists.items():
        for path, _, _ in entries:
            if path in places:
                both = f"{_PARTS[places[path]]} and {_PARTS[split]}"
                raise ValueError(f"{file}: {path} is in {both}; an image may be listed once")
            places[path] = split
