"""Data sets of list files: one image and its label a line, as DomainNet and CORe50 have them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from avalanche_proxyfda.streams.files.content import identify_by_content
from avalanche_proxyfda.streams.files.folder_parts import listed
from avalanche_proxyfda.streams.files.images import ImageFiles
from avalanche_proxyfda.streams.files.splits import Splits

CLASSES = "classes.txt"


def read_lists(place: Path) -> tuple[Splits, tuple[str, ...]]:
    """Read ``NAME_train.txt`` and ``NAME_test.txt``; images are hashed and not decoded.

    A line holds a path, relative to the folder of the lists, and a label from 0. Class names are
    the lines of ``classes.txt`` beside the lists, by label. Without that file, the folder of a
    class's images is its name.

    Args:
        place: ``FOLDER/NAME``.

    Returns:
        Images and labels of train and test, and class names by label.

    Raises:
        FileNotFoundError: if a list or an image is missing.
        ValueError: if a line has another form, an image is listed twice, or labels have no names
            or two labels one name.
    """
    root = place.parent
    lists = {split: _read(root / f"{place.name}_{split}.txt") for split in ("train", "test")}
    _check_once(place, lists)
    classes = _classes(root, place, [row for rows in lists.values() for row in rows])
    absent = [path for rows in lists.values() for path, _ in rows if not (root / path).is_file()]
    if absent:
        raise FileNotFoundError(
            f"the lists of {place} name {len(absent)} images that are not in {root}: "
            f"{listed(absent)}"
        )
    splits: Splits = {}
    for split, rows in lists.items():
        paths, labels = [root / path for path, _ in rows], [label for _, label in rows]
        files = ImageFiles(paths, labels, names=[path for path, _ in rows])
        identify_by_content(files, f"{place.name} {split}")
        splits[split] = (files, labels)
    return splits, classes


def _read(file: Path) -> list[tuple[str, int]]:
    if not file.is_file():
        raise FileNotFoundError(
            f"{file} does not exist: a data set of lists needs NAME_train.txt and NAME_test.txt, "
            "with a path and a label a line"
        )
    rows = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        path, _, label = line.strip().rpartition(" ")
        inside = PurePosixPath(path)
        if not path or not label.isdecimal() or inside.is_absolute() or ".." in inside.parts:
            raise ValueError(
                f"{file}:{number}: {line!r} is not a path below the folder of the list and a label "
                "from 0"
            )
        rows.append((path.strip(), int(label)))
    if not rows:
        raise ValueError(f"{file} lists no image: give a line for each, PATH LABEL")
    return rows


def _check_once(place: Path, lists: dict[str, list[tuple[str, int]]]) -> None:
    owners: dict[str, str] = {}
    for split, rows in lists.items():
        for path, _ in rows:
            if path in owners:
                raise ValueError(
                    f"the lists of {place}: {path} is in {owners[path]} and in {split}; an image "
                    "may be listed once"
                )
            owners[path] = split


def _classes(root: Path, place: Path, rows: Sequence[tuple[str, int]]) -> tuple[str, ...]:
    highest = max(label for _, label in rows)
    if (root / CLASSES).is_file():
        text = (root / CLASSES).read_text(encoding="utf-8")
        names = [name.strip() for name in text.rstrip().splitlines()]
        if "" in names:
            raise ValueError(
                f"{root / CLASSES}:{names.index('') + 1} is blank, and names are read by line: "
                "remove the line, or name the class of that label"
            )
        _check_different(root / CLASSES, names)
        if len(names) <= highest:
            raise ValueError(
                f"{root / CLASSES} has {len(names)} names, the lists of {place.name} have label "
                f"{highest}: give a name a line, by label"
            )
        return tuple(names)
    folders: dict[int, str] = {}
    for path, label in rows:
        folder = PurePosixPath(path).parent.name
        if folders.setdefault(label, folder) != folder or not folder:
            raise ValueError(
                f"the lists of {place}: label {label} has images in {folders[label] or '.'} and in "
                f"{folder or '.'}, so no folder names it: write {CLASSES} beside the lists"
            )
    holes = sorted(set(range(highest + 1)) - set(folders))
    if holes:
        raise ValueError(
            f"the lists of {place} have no image of the labels {holes[:5]}: write {CLASSES} beside "
            "the lists, or number classes from 0 without holes"
        )
    names = [folders[label] for label in range(highest + 1)]
    _check_different(place, names)
    return tuple(names)


def _check_different(where: Path, names: Sequence[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(
            f"{where}: two labels have one class name: {listed(twice)}; write {CLASSES} beside "
            "the lists, with different names"
        )
