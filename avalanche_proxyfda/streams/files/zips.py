"""Zip archives from elsewhere: no member is written outside the target folder."""

from __future__ import annotations

import stat
import zipfile
from pathlib import Path

from tqdm import tqdm

from avalanche_proxyfda.streams.files.members import (
    Names,
    UnsafeArchive,
    check_bounds,
    check_room,
)
from avalanche_proxyfda.streams.files.visible import is_visible

MARK = ".extracted-from.json"
"""Name of the file in an extracted folder that names the folder's archive."""
_BLOCK = 1 << 20
_BEGINNINGS = (b"PK\x03\x04", b"PK\x05\x06")  # with members, and without


def is_zip(archive: Path) -> bool:
    """True if the file begins as a zip does, whatever its name.

    Raises:
        OSError: if the file cannot be read.
    """
    with archive.open("rb") as file:
        return file.read(4) in _BEGINNINGS


def extract_zip(archive: Path, into: Path, max_bytes: int, max_files: int) -> None:
    """Extract a zip to the empty folder ``into``.

    Members in hidden folders and in ``__MACOSX`` are left out.

    Args:
        archive: zip file.
        into: folder to fill.
        max_bytes: largest number of bytes to write.
        max_files: largest number of members.

    Raises:
        UnsafeArchive: if a name is absolute, climbs out of the folder or repeats; a member is
            a link, a device, encrypted, or larger than its header says; or the archive is above
            a bound.
        zipfile.BadZipFile: if the archive is damaged.
        OSError: if the disk has no room.
    """
    with zipfile.ZipFile(archive) as opened:
        members = _checked(opened, max_bytes, max_files)
        check_room(archive, into.parent, sum(member.file_size for member in members))
        for member in tqdm(members, desc=f"extracting {archive.name}", delay=2, leave=False):
            _write(opened, member, into)


def _checked(opened: zipfile.ZipFile, max_bytes: int, max_files: int) -> list[zipfile.ZipInfo]:
    members: list[zipfile.ZipInfo] = []
    names, total = Names(MARK), 0
    for member in opened.infolist():
        path = names.check(member.filename)
        kind = stat.S_IFMT(member.external_attr >> 16)  # 0 unless a Unix system wrote the zip
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise UnsafeArchive(f"{member.filename!r} is a link or a device")
        if member.flag_bits & 1:
            raise UnsafeArchive(f"{member.filename!r} is encrypted")
        if not member.is_dir():
            names.add(member.filename)
        total += member.file_size
        check_bounds(total, len(members) + 1, max_bytes, max_files)
        if all(is_visible(part) for part in path.parts):
            members.append(member)
    return members


def _write(opened: zipfile.ZipFile, member: zipfile.ZipInfo, root: Path) -> None:
    target = root / member.filename.replace("\\", "/")
    if member.is_dir():
        target.mkdir(parents=True, exist_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with opened.open(member) as source, target.open("xb") as sink:
        left = member.file_size
        while block := source.read(_BLOCK):  # a header may name fewer bytes than there are
            left -= len(block)
            if left < 0:
                raise UnsafeArchive(f"{member.filename!r} is larger than its header says")
            sink.write(block)
