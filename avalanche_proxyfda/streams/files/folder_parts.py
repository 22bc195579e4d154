"""The layout of a folder of photographs: which folders are parts, and which are classes."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from avalanche_proxyfda.streams.files.image_names import ENDINGS, is_image_name
from avalanche_proxyfda.streams.files.visible import files_below, files_in, folders_in

PARTS = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
"""Names in lower case that a part of a data set may have, by split."""
_PHONES = (".heic", ".heif", ".avif")
_MOST_NAMED = 5


@dataclass(frozen=True)
class Part:
    """A folder with a folder a class.

    Attributes:
        folder: the folder.
        images: sorted paths of the images of each class, at any depth; a class may have none.
        others: number of files that are no images, by ending.
        loose: number of images beside the class folders.
    """

    folder: Path
    images: dict[str, list[Path]]
    others: Counter[str]
    loose: int

    @property
    def classes(self) -> list[str]:
        """Classes that have an image, sorted."""
        return [name for name, paths in self.images.items() if paths]


def read_part(folder: Path) -> Part:
    """List the images of each class folder in ``folder``; no image is read.

    Raises:
        OSError: if a folder cannot be read.
    """
    images, others = {}, Counter[str]()
    for name in folders_in(folder):
        files = files_below(folder / name)
        images[name] = [path for path in files if is_image_name(path.name)]
        others.update(path.suffix.lower() for path in files if not is_image_name(path.name))
    beside = files_in(folder)
    loose = sum(is_image_name(path.name) for path in beside)
    others.update(path.suffix.lower() for path in beside if not is_image_name(path.name))
    return Part(folder, images, others, loose)


def part_folders(folder: Path) -> dict[str, Path]:
    """The parts of a divided data set, by split; empty for a folder of classes.

    ``train/`` beside ``test/`` or ``val/`` makes a divided data set. Names may have capitals, and
    :data:`PARTS` lists other names. A ``train/`` that is alone is a folder of classes.

    Raises:
        FileNotFoundError: if there is no folder, or a part has no training part beside it.
        ValueError: if two folders could be the same part.
    """
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{folder} is {'no folder' if folder.exists() else 'not there'}{_near(folder)}: a "
            "folder needs train/ and test/, or a folder for each class"
        )
    names, found = folders_in(folder), {}
    for split, words in PARTS.items():
        here = [name for name in names if name.lower() in words]
        if len(here) > 1:
            raise ValueError(
                f"{folder} has {'/ and '.join(here)}/: which is the {split} part? Leave one"
            )
        if here:
            found[split] = folder / here[0]
    if "train" in found and len(found) > 1:
        return found
    if "train" in found and len(names) == 1:
        return {"all": found["train"]}
    if found and len(found) == len(names):
        raise FileNotFoundError(
            f"{folder / 'train'} is not there: {folder} has {listed(names, '/')} alone; a folder "
            "needs train/ and test/, or a folder for each class"
        )
    return {}


def listed(names: Iterable[str], ending: str = "") -> str:
    """Names to read; after five names the number of the others.

    >>> from avalanche_proxyfda.streams.files.folder_parts import listed
    >>> listed(["a", "b", "c", "d", "e", "f", "g"])
    'a, b, c, d, e and 2 more'
    """
    all_names = list(names)
    text = ", ".join(f"{name}{ending}" for name in all_names[:_MOST_NAMED])
    more = len(all_names) - _MOST_NAMED
    return f"{text} and {more} more" if more > 0 else text


def other_files(parts: Sequence[Part]) -> str | None:
    """One line on the files that are no images, with their number by ending; None without any."""
    others = sum((part.others for part in parts), Counter[str]())
    if not others:
        return None
    kinds = (f"{count} {ending or 'without ending'}" for ending, count in sorted(others.items()))
    text = f"files that are not read: {', '.join(kinds)}"
    if any(ending in others for ending in _PHONES):
        phones = ", ".join(ending for ending in _PHONES if ending in others)
        text += f"; convert {phones} to .jpg to use them"
    return text


def spelling(name: str, others: Iterable[str]) -> str | None:
    """The name among ``others`` that may be ``name`` in another spelling; None without one.

    >>> from avalanche_proxyfda.streams.files.folder_parts import spelling
    >>> spelling("Golden Retriever", ["pug", "golden_retriever"])
    'golden_retriever'
    """
    plain = {_letters(other): other for other in others}
    near = difflib.get_close_matches(_letters(name), plain, n=1, cutoff=0.85)
    return plain[near[0]] if near else None


def _letters(name: str) -> str:
    return "".join(c for c in name.casefold() if c.isalnum())


def no_images(folder: Path, parts: Sequence[Part]) -> str:
    """The message that ``folder`` has too few classes with images."""
    classes = sorted({name for part in parts for name in part.classes})
    text = f"{folder} has " + (
        f"images of one class alone, {classes[0]}" if classes else "no class folder with images"
    )
    inner = folders_in(parts[0].folder / classes[0]) if classes else []
    if len(inner) > 1:
        text += f"; if {listed(inner)} are the classes, give {parts[0].folder / classes[0]}"
    loose = sum(part.loose for part in parts)
    if loose:
        text += f"; images outside of class folders: {loose}; put each into its class's folder"
    others = other_files(parts)
    if others:
        text += f"; {others}"
    return (
        f"{text}; two classes are needed, a folder each, with images ({', '.join(sorted(ENDINGS))})"
    )


def _near(folder: Path) -> str:
    if not folder.parent.is_dir():
        return ""
    name = spelling(folder.name, folders_in(folder.parent))
    return "" if name is None or name == folder.name else f" (is it {folder.parent / name}?)"
