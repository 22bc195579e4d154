"""Data sets in folders: a folder a class, whole or divided into train, validation and test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from avalanche_proxyfda.streams.files.content import (
    content_digests,
    identify_by_content,
    split_by_content,
)
from avalanche_proxyfda.streams.files.folder_parts import (
    Part,
    listed,
    no_images,
    other_files,
    part_folders,
    read_part,
    spelling,
)
from avalanche_proxyfda.streams.files.images import ImageFiles
from avalanche_proxyfda.streams.files.splits import Splits
from avalanche_proxyfda.streams.files.visible import folders_in

BY_CONTENT = "train, validation and test: by content hash, ours; test is a fifth of each class"


@dataclass(frozen=True, eq=False)
class FolderSet:
    """A data set in folders.

    Attributes:
        splits: images and labels by split.
        classes: class names by label.
        note: origin of the splits; None if train and test, or all three, are folders.
        notices: what was left out, or is never tested, each with its remedy.
    """

    splits: Splits
    classes: tuple[str, ...]
    note: str | None
    notices: tuple[str, ...]


def read_folders(folder: Path, share: float = 0.1, seed: int = 0) -> FolderSet:
    """Read a data set in folders.

    ``folder`` has a folder a class, or ``train/`` and ``test/`` with a folder a class, and
    perhaps ``val/`` or ``validation/``. Without ``test/``, ``val/`` is the test split. Images in
    nested folders belong to the class. Hidden files and folders are left out. Folders of
    classes alone are split by content
    (:func:`~avalanche_proxyfda.streams.files.content.split_by_content`). A file that cannot be
    read is a broken image of the training split, and counts for no split.

    Args:
        folder: the folder.
        share: see :func:`~avalanche_proxyfda.streams.files.content.split_by_content`.
        seed: see :func:`~avalanche_proxyfda.streams.files.content.split_by_content`.

    Raises:
        FileNotFoundError: if the folder or its training part is missing.
        ValueError: if fewer than two classes have training images, two folders are the same
            part, no class is in train and in test, or no image can be read.
        OSError: if a folder cannot be read.
    """
    places = part_folders(folder)
    if not places or "all" in places:
        return _whole(read_part(places.get("all", folder)), folder, share, seed)
    parts = {split: read_part(place) for split, place in places.items()}
    note = None
    if "test" not in parts:
        name = parts["validation"].folder.name
        parts["test"] = parts.pop("validation")
        held_out = "validation: of train, ours" if share else "no validation"
        note = f"test: {name}/, for there is no test/; {held_out}"
    beside = [n for n in folders_in(folder) if folder / n not in places.values()]
    return _divided(parts, note, beside)


def _whole(part: Part, folder: Path, share: float, seed: int) -> FolderSet:
    classes = part.classes
    if len(classes) < 2:
        raise ValueError(no_images(folder, [part]))
    files = _files(part, classes)
    files.digests = digests = content_digests(files.paths, folder.name)
    names = [name.partition("/")[0] for name in files.names]
    files.keys = [f"{name}/{digest}" for name, digest in zip(names, digests, strict=True)]
    known = {k: digest for k, digest in enumerate(digests) if digest is not None}
    if not known:
        raise ValueError(
            f"none of the {len(files)} images of {folder} can be read, such as {files.names[0]}: "
            "restore the files"
        )
    places, labels = list(known), [files.targets[k] for k in known]
    chosen_of = split_by_content(list(known.values()), labels, share, seed)
    rows = {split: [places[k] for k in chosen] for split, chosen in chosen_of.items()}
    rows["train"] += [k for k in range(len(files)) if k not in known]
    contents = {name: {known[k] for k in _rows(files, name) if k in known} for name in classes}
    single = [name for name in classes if len(contents[name]) == 1]
    notices = [
        *_empty(part),
        _line("one image", single, "learnt and never tested: add images"),
        _twice(files, known),
        *_rest([part]),
    ]
    splits: Splits = {}
    for split, chosen in rows.items():
        if not chosen and (share or split != "validation"):
            raise ValueError(
                f"{folder} has no image for {split}: its classes have too few; give one class "
                "three images at least"
            )
        splits[split] = (files.subset(chosen), [files.targets[k] for k in chosen])
    note = BY_CONTENT if share else BY_CONTENT.replace("train, validation and", "train and")
    return FolderSet(splits, tuple(classes), note, tuple(filter(None, notices)))


def _divided(parts: dict[str, Part], note: str | None, beside: Sequence[str]) -> FolderSet:
    train, test = parts["train"], parts["test"]
    classes = train.classes
    if len(classes) < 2:
        raise ValueError(no_images(train.folder, [train]))
    if not set(classes) & set(test.classes):
        raise ValueError(
            f"{train.folder} and {test.folder} have no class in common: {listed(classes)} are in "
            f"{train.folder.name}/ alone, {listed(test.classes) or 'no class'} in "
            f"{test.folder.name}/ alone: give a class the same name in both"
        )
    here = train.folder.name
    notices = [
        _line(f"beside {here}/", beside, "not read: only the parts of the data set are"),
        *_empty(train),
    ]
    for part in parts.values():
        if part is not train:
            notices += _lonely(part, train)
    untested = [name for name in classes if name not in test.classes]
    notices += [
        _line(f"no image in {test.folder.name}/", untested, "learnt and never tested: add images"),
        _line(
            f"one image in {here}/",
            [name for name in classes if len(train.images[name]) == 1],
            "no image can be held out of it: add images",
        ),
        *_rest(list(parts.values())),
    ]
    splits: Splits = {}
    for split in ("train", "validation", "test"):
        if split in parts:
            files = _files(parts[split], classes)
            identify_by_content(files, f"{train.folder.parent.name} {split}")
            splits[split] = (files, files.targets)
    return FolderSet(splits, tuple(classes), note, tuple(filter(None, notices)))


def _files(part: Part, classes: Sequence[str]) -> ImageFiles:
    pairs = [(path, k) for k, name in enumerate(classes) for path in part.images.get(name, [])]
    names = [path.relative_to(part.folder).as_posix() for path, _ in pairs]
    return ImageFiles([path for path, _ in pairs], [k for _, k in pairs], names=names)


def _rows(files: ImageFiles, name: str) -> list[int]:
    return [k for k, other in enumerate(files.names) if other.startswith(f"{name}/")]


def _line(fault: str, classes: Sequence[str], end: str) -> str | None:
    return f"{fault}: {listed(classes)}; {end}" if classes else None


def _empty(part: Part) -> list[str | None]:
    empty = [name for name, paths in part.images.items() if not paths]
    return [_line("no image", empty, "left out: add images, or remove the folder")]


def _lonely(part: Part, train: Part) -> list[str | None]:
    """Lines on the classes of ``part`` that have no training image."""
    lines: list[str | None] = []
    alone = [name for name in part.classes if name not in train.classes]
    for name in list(alone):
        other = spelling(name, [n for n in train.classes if n not in part.classes])
        if other is not None:
            alone.remove(name)
            lines.append(
                f"{part.folder.name}/{name} is left out: if it is {train.folder.name}/{other}, "
                "give both folders the same name"
            )
    end = f"left out: add images to {train.folder.name}/, or remove the folder"
    return [*lines, _line(f"in {part.folder.name}/ and not in {train.folder.name}/", alone, end)]


def _twice(files: ImageFiles, digests: Mapping[int, str]) -> str | None:
    """A line on images that lie in two classes.

    Args:
        files: the images.
        digests: hash of each image that can be read, by row.
    """
    first: dict[str, int] = {}
    pairs = []
    for k, digest in digests.items():
        other = first.setdefault(digest, k)
        if files.targets[other] != files.targets[k]:
            pairs.append(f"{files.names[other]} = {files.names[k]}")
    return _line("the same image in two classes", pairs, "remove it from one") if pairs else None


def _rest(parts: Sequence[Part]) -> list[str | None]:
    loose = sum(part.loose for part in parts)
    line = f"images outside of class folders: {loose}; left out: put each into its class's folder"
    return [line if loose else None, other_files(parts)]
