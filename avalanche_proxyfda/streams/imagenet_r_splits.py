"""Splits of ImageNet-R into train and test; each split is checked and has an identity."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from avalanche_proxyfda._yaml import read_yaml
from avalanche_proxyfda.streams.files.folder_parts import listed
from avalanche_proxyfda.streams.files.image_names import is_image_name
from avalanche_proxyfda.streams.files.images import list_hash

CLASSES = 200
CODA_COUNTS = (24_000, 6_000)
IMAGES = sum(CODA_COUNTS)
_WNID = re.compile(r"n\d{8}")
Pair = tuple[Path, int]
Pairs = tuple[Pair, ...]


@dataclass(frozen=True)
class Lists:
    """A split of ImageNet-R.

    Attributes:
        wnids: WordNet ids of the classes, sorted; the index of a class is its id.
        train: ``(path, class)`` pairs, sorted by path.
        test: ``(path, class)`` pairs, sorted by path.
        coda_ids: CODA-Prompt's number for each of ``wnids``; None for other splits.
    """

    wnids: tuple[str, ...]
    train: Pairs
    test: Pairs
    coda_ids: tuple[int, ...] | None = None

    @property
    def sha256(self) -> str:
        """Identity of the split: a hash over its sorted lines ``train|test <wnid>/<file>``."""
        return list_hash(
            [
                f"{part} {path.parent.name}/{path.name}"
                for part, pairs in (("train", self.train), ("test", self.test))
                for path, _ in pairs
            ]
        )


def class_folders(folder: Path) -> list[str]:
    """Sorted names of the folders in ``folder`` that are WordNet ids."""
    return sorted(e.name for e in os.scandir(folder) if e.is_dir() and _WNID.fullmatch(e.name))


def split_folders(folder: Path) -> tuple[Path, Path]:
    """The folders of train and test; test may be called ``val`` or ``validation``."""
    names = ("test", "val", "validation")
    test = next((folder / name for name in names if (folder / name).is_dir()), folder / "test")
    return folder / "train", test


def is_split(folder: Path) -> bool:
    """Return True if ``folder`` has train and test folders with classes."""
    return all(part.is_dir() and class_folders(part) for part in split_folders(folder))


def _files(folder: Path, wnids: Sequence[str]) -> list[tuple[Path, int]]:
    files = []
    for label, wnid in enumerate(wnids):
        with os.scandir(folder / wnid) as entries:
            names = sorted(e.name for e in entries if e.is_file() and is_image_name(e.name))
        if not names:
            raise ValueError(f"{folder / wnid} is empty: the archive was extracted in part only")
        files += [(folder / wnid / name, label) for name in names]
    return files


def _check_classes(wnids: Sequence[str], where: Path, classes: int) -> None:
    if len(wnids) != classes:
        raise ValueError(
            f"{where} has {len(wnids)} class folders, ImageNet-R has {classes}: the archive was "
            "extracted in part only, or this is another data set"
        )


def hash80(root: Path, classes: int = CLASSES) -> Lists:
    """Split a tree 80/20: the fifth of each class with the smallest name hashes is the test.

    The split is the same for every copy of the data set. No publication uses it, so its results
    are comparable with each other only.

    Args:
        root: folder with the class folders.
        classes: required number of classes.

    Raises:
        ValueError: if the number of classes differs, or a class has no image.
    """
    wnids = class_folders(root)
    _check_classes(wnids, root, classes)
    test, train = held_out(_files(root, wnids), 0.2)
    return Lists(tuple(wnids), train, test)


def held_out(pairs: Sequence[Pair], share: float, salt: str = "") -> tuple[Pairs, Pairs]:
    """Hold out ``share`` of each class: the images with the smallest name hashes.

    A class with two images or more gives one at least; a class with one image gives none.

    Args:
        pairs: ``(path, class)`` pairs.
        share: share of each class.
        salt: text before each name that is hashed.

    Returns:
        The pairs that are held out, and the rest, both sorted by path.
    """
    by_class: dict[int, list[Pair]] = {}
    for pair in pairs:
        by_class.setdefault(pair[1], []).append(pair)

    def by_hash(pair: Pair) -> bytes:
        name = f"{salt}{pair[0].parent.name}/{pair[0].name}"
        return hashlib.sha256(name.encode()).digest()

    chosen: list[Pair] = []
    rest: list[Pair] = []
    for members in by_class.values():
        members.sort(key=by_hash)
        count = max(1, round(share * len(members))) if len(members) > 1 else 0
        chosen += members[:count]
        rest += members[count:]
    return tuple(sorted(chosen)), tuple(sorted(rest))


def presplit(root: Path, classes: int = CLASSES) -> Lists:
    """Read the split of a folder with ``train`` and ``test`` (the PILOT family's download).

    Args:
        root: folder with ``train`` and ``test``; see :func:`split_folders`.
        classes: required number of classes.

    Raises:
        ValueError: if the classes differ, a class has no image, or a file is in both parts.
    """
    parts = []
    first = split_folders(root)[0]
    wnids = class_folders(first)
    for part in split_folders(root):
        own = class_folders(part)
        _check_classes(own, part, classes)
        alone = {name: sorted(one - other) for name, one, other in _sides(first, wnids, part, own)}
        if any(alone.values()):
            sides = (f"{listed(names)} in {name}/ alone" for name, names in alone.items() if names)
            raise ValueError(f"{root}: the parts have different classes: {', '.join(sides)}")
        parts.append(tuple(_files(part, wnids)))
    train, test = parts
    return _without_overlap(Lists(tuple(wnids), train, test))


def _sides(
    first: Path, classes: Sequence[str], second: Path, others: Sequence[str]
) -> list[tuple[str, set[str], set[str]]]:
    one, two = set(classes), set(others)
    return [(first.name, one, two), (second.name, two, one)]


def check_lists(lists: tuple[Path, Path]) -> None:
    """Refuse lists of CODA-Prompt that are not there.

    Args:
        lists: YAML files of train and test.

    Raises:
        FileNotFoundError: names the missing file, its source and its place.
    """
    for file in lists:
        if not file.is_file():
            raise FileNotFoundError(
                f"{file} does not exist: split='coda' needs the two lists of CODA-Prompt, "
                "imagenet-r_train.yaml and imagenet-r_test.yaml, from the folder "
                f"dataloaders/splits of github.com/GT-RIPL/CODA-Prompt; put both into "
                f"{file.parent}, or choose split='hash80'"
            )


def coda(
    root: Path,
    lists: tuple[Path, Path],
    classes: int = CLASSES,
    counts: tuple[int, int] | None = CODA_COUNTS,
) -> Lists:
    """Read CODA-Prompt's fixed split from its YAML lists of train and test.

    Args:
        root: folder with the class folders.
        lists: YAML files of train and test.
        classes: required number of classes.
        counts: required number of images in each list; None skips the check.

    Raises:
        FileNotFoundError: if a list does not exist, see :func:`check_lists`.
        ValueError: if counts, classes or labels differ, a file is missing, or a file is on both
            lists.
    """
    check_lists(lists)
    wnids = class_folders(root)
    _check_classes(wnids, root, classes)
    place = {wnid: k for k, wnid in enumerate(wnids)}
    numbers: dict[str, int] = {}
    parts = []
    for file, count in zip(lists, counts or (None, None), strict=True):
        data, targets = _listed(file)
        if len(data) != (count or len(data)) or len(targets) != len(data):
            raise ValueError(
                f"{file} lists {len(data)} files and {len(targets)} targets; expected "
                f"{count or len(data)} of each"
            )
        pairs, absent = [], []
        for name, target in zip(data, targets, strict=True):
            wnid, _, leaf = "/".join(name.split("/")[-2:]).partition("/")
            if wnid not in place or numbers.setdefault(wnid, target) != target:
                raise ValueError(f"{file}: {name!r} has target {target}, which is not its class's")
            path = root / wnid / leaf
            if not path.is_file():
                absent.append(name)
            pairs.append((path, place[wnid]))
        if absent:
            raise ValueError(
                f"{file}: {len(absent)} files are not under {root}; the first: "
                + ", ".join(absent[:5])
            )
        parts.append(tuple(sorted(pairs)))
    if sorted(numbers.values()) != list(range(classes)):
        raise ValueError(f"{lists[0]}: targets must number {classes} classes from 0 without holes")
    ids = tuple(numbers[wnid] for wnid in wnids)
    return _without_overlap(Lists(tuple(wnids), parts[0], parts[1], ids))


def _listed(file: Path) -> tuple[list[str], list[int]]:
    """Read the files and labels of one of CODA-Prompt's lists."""
    try:
        content = read_yaml(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} is not YAML: {error}") from error
    if not isinstance(content, dict) or not {"data", "targets"} <= set(content):
        raise ValueError(f"{file} is not a list of CODA-Prompt: it needs 'data' and 'targets'")
    data, targets = content["data"], content["targets"]
    for key, kind in (("data", str), ("targets", int)):
        if not isinstance(content[key], list) or any(type(x) is not kind for x in content[key]):
            raise ValueError(f"{file}: {key!r} must be a list of {kind.__name__}")
    return data, targets


def _without_overlap(lists: Lists) -> Lists:
    train, test = (
        [f"{path.parent.name}/{path.name}" for path, _ in pairs]
        for pairs in (lists.train, lists.test)
    )
    both = sorted(set(train) & set(test))
    if both:
        raise ValueError(
            f"{len(both)} files are in train and in test; the first: {', '.join(both[:5])}. "
            "Remove them from one of the lists"
        )
    for part, names in (("train", train), ("test", test)):
        if len(set(names)) < len(names):
            raise ValueError(
                f"the {part} list repeats {len(names) - len(set(names))} files: name each file once"
            )
    return lists
