"""Checks of an archive's members before the first of them is written."""

from __future__ import annotations

import gzip
import lzma
import shutil
import tarfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath

GIB = 1 << 30
# exceptions of tarfile, zipfile and their decompressors, and of members that are file and folder
DAMAGE = (
    tarfile.TarError,
    zipfile.BadZipFile,
    EOFError,
    zlib.error,
    lzma.LZMAError,
    gzip.BadGzipFile,
    FileExistsError,
    NotADirectoryError,
    IsADirectoryError,
    ValueError,
    TypeError,
    RecursionError,
)


class UnsafeArchive(ValueError):  # noqa: N818 (the name states the fault)
    """The archive has a member that must not be extracted."""


class Names:
    """The names of an archive's members.

    Args:
        reserved: name that no member may have at the top.
    """

    def __init__(self, reserved: str) -> None:
        self._reserved = reserved
        self._files: set[PurePosixPath] = set()

    def check(self, name: str) -> PurePosixPath:
        """Return the path of a member within the folder.

        Raises:
            UnsafeArchive: if the path is absolute, climbs out of the folder or is reserved.
        """
        path = PurePosixPath(name.replace("\\", "/"))
        first = path.parts[0] if path.parts else ""
        if path.is_absolute() or ".." in path.parts or first[1:2] == ":":
            raise UnsafeArchive(f"{name!r} would be written outside the folder")
        if first == self._reserved:
            raise UnsafeArchive(f"{name!r} is called like our own mark")
        return path

    def add(self, name: str) -> None:
        """Note a file.

        Raises:
            UnsafeArchive: if the file was noted before.
        """
        path = self.check(name)
        if path in self._files:
            raise UnsafeArchive(f"{name!r} is there twice")
        self._files.add(path)


def check_bounds(total: int, members: int, max_bytes: int, max_files: int) -> None:
    """Raise UnsafeArchive if an archive is above one of its bounds."""
    if total > max_bytes or members > max_files:
        raise UnsafeArchive(
            f"it holds more than {max_bytes / GIB:.1f} GiB or {max_files} files: raise "
            "the bound if that is right"
        )


def check_room(archive: Path, folder: Path, needed: int) -> None:
    """Raise OSError if the disk of ``folder`` has less than ``needed`` bytes left."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise OSError(
            f"{archive} needs {needed / GIB:.2f} GiB, but {folder} has {free / GIB:.2f} GiB left"
        )
