"""``--data`` of ``python -m benchmarks run``: folders of photographs as data sets to learn."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from avalanche_proxyfda._files import expanded
from avalanche_proxyfda.streams.files.folder_parts import listed, part_folders
from avalanche_proxyfda.streams.files.image_names import is_image_name
from avalanche_proxyfda.streams.files.visible import files_below, files_in, folders_in
from benchmarks.results.places import overlapping

RECIPE = "own_data.yaml"
"""Recipe of ``--data`` without ``--config``."""
_ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".rar", ".7z")
_MOST_SETS = 5
_SET_BY_DATA = ("where.data", "stream.kind", "stream.sets")


def data_overrides(folders: Sequence[str], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Keys of the configuration that learn ``folders`` one after the other.

    The common folder of all becomes ``where.data``, so that names and records hold no path of
    the machine.

    Args:
        folders: folders of photographs, in the order of learning.
        overrides: other keys that the command line sets.

    Raises:
        FileNotFoundError: if a folder is missing.
        ValueError: if a path is no folder, a folder is given twice or lies in another one, or
            ``overrides`` have a key that ``--data`` sets.
    """
    twice = [key for key in _SET_BY_DATA if key in overrides]
    if twice:
        raise ValueError(f"--set {twice[0]}: --data sets it; leave one of the two out")
    places = [Path(os.path.abspath(expanded(folder))) for folder in folders]
    for place in places:
        _check(place)
    for k, place in enumerate(places):
        for other in places[:k]:
            if overlapping(place, other):
                raise ValueError(
                    f"--data: {place} and {other} share images: give folders that do not contain "
                    "each other, each once"
                )
    root = Path(os.path.commonpath([place.parent for place in places]))
    names = [f"folder:{place.relative_to(root).as_posix()}" for place in places]
    return {"where.data": str(root), "stream.kind": "sequence", "stream.sets": names}


def parents_of_sets(folders: Sequence[str]) -> Iterator[str]:
    """Yield a question on each folder whose class folders hold folders and no image of their own.

    Such a folder may be the parent of the data sets; it stays allowed.

    Args:
        folders: folders of photographs, as ``--data`` has them.
    """
    for folder in folders:
        place = expanded(folder)
        names = [] if part_folders(place) else folders_in(place)
        if names and all(_holds_folders_alone(place / name) for name in names):
            sets = " ".join(shlex.quote(str(place / name)) for name in names[:_MOST_SETS])
            more = " …" if len(names) > _MOST_SETS else ""
            yield (
                f"the class folders {listed(names)} hold folders and no images: did you mean "
                f"--data {sets}{more}?"
            )


def _holds_folders_alone(folder: Path) -> bool:
    """Return True if images are in the folders of ``folder``, and none is beside them."""
    if any(is_image_name(path.name) for path in files_in(folder)):
        return False
    return any(is_image_name(path.name) for path in files_below(folder))


def _check(place: Path) -> None:
    if place.is_file():
        remedy = "give the folder of the photographs"
        if place.suffix.lower() in _ARCHIVES:
            remedy = "extract the archive, and give its folder"
        elif place.suffix.lower() == ".npz":
            remedy = f"for a pack, write a recipe with stream.sets: ['npz:{place.name}']"
        raise ValueError(f"--data {place} is a file: {remedy}")
    part_folders(place)  # raises if the folder is missing, or no layout of photographs
