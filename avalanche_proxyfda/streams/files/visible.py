"""Entries of folders that count: hidden ones and what systems leave behind do not."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

LEFT_BEHIND = frozenset(
    {"__macosx", "@eadir", "$recycle.bin", "system volume information", "thumbs.db", "desktop.ini"}
)
"""Names in lower case of files and folders that operating systems leave among photographs."""


def is_visible(name: str) -> bool:
    """Return False for hidden names (``.git``, ``.ipynb_checkpoints``) and :data:`LEFT_BEHIND`.

    >>> from avalanche_proxyfda.streams.files.visible import is_visible
    >>> [is_visible(name) for name in ("cat", ".ipynb_checkpoints", "__MACOSX", "Thumbs.db")]
    [True, False, False, False]
    """
    return not name.startswith(".") and name.lower() not in LEFT_BEHIND


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def folders_in(folder: Path) -> list[str]:
    """Sorted names of the visible folders in ``folder``.

    Raises:
        OSError: if ``folder`` cannot be read.
    """
    with os.scandir(folder) as entries:
        return sorted(e.name for e in entries if is_visible(e.name) and _is_folder(e))


def files_in(folder: Path) -> list[Path]:
    """Sorted paths of the visible files in ``folder``, without those of its folders.

    Raises:
        OSError: if ``folder`` cannot be read.
    """
    with os.scandir(folder) as entries:
        return sorted(folder / e.name for e in entries if is_visible(e.name) and not _is_folder(e))


def files_below(folder: Path) -> list[Path]:
    """Sorted paths of the visible files in ``folder`` and in its visible folders, at any depth.

    Links to folders are followed; a folder that contains itself is read once.

    Raises:
        OSError: if a folder cannot be read.
    """
    return sorted(_walk(folder, frozenset()))


def _walk(folder: Path, above: frozenset[tuple[int, int]]) -> Iterator[Path]:
    status = folder.stat()
    place = (status.st_dev, status.st_ino)
    if place in above:
        return
    yield from files_in(folder)
    for name in folders_in(folder):
        yield from _walk(folder / name, above | {place})
