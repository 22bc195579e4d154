"""Tar and zip archives from elsewhere: no member is written outside the target folder."""

from __future__ import annotations

import json
import os
import shutil
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from tqdm import tqdm

from avalanche_proxyfda.streams.files.members import (
    DAMAGE,
    GIB,
    Names,
    UnsafeArchive,
    check_bounds,
    check_room,
)
from avalanche_proxyfda.streams.files.zips import MARK, extract_zip, is_zip

_HEADER = 1 << 20  # largest long name or attributes in bytes: tarfile keeps them in memory
_PADDING = 64 << 20  # largest padding after the end mark, in bytes


class _Member(tarfile.TarInfo):
    """A member whose header is checked before tarfile acts on it."""

    @classmethod
    def frombuf(cls, buf: Any, encoding: str, errors: str) -> _Member:
        """Read a header.

        Raises:
            UnsafeArchive: if a size fills memory, sends the reader backwards, or belongs to a
                sparse file.
        """
        member = super().frombuf(buf, encoding, errors)
        if member.size < 0 or (member.size > _HEADER and member.type not in _SIZED):
            raise UnsafeArchive(f"{member.name!r} has a header of {member.size} bytes")
        if member.type == tarfile.GNUTYPE_SPARSE:
            raise UnsafeArchive(f"{member.name!r} is a sparse file")
        return member


_SIZED = (*tarfile.REGULAR_TYPES, tarfile.DIRTYPE, tarfile.LNKTYPE)


def extract(
    archive: Path, into: Path, max_bytes: int = 20 * GIB, max_files: int = 1_000_000
) -> Path:
    """Extract ``archive`` to the new folder ``into``, completely or not at all.

    The members go to a temporary folder beside ``into``, which is renamed at the end. The
    archive's permissions and owners are not used.

    Args:
        archive: tar file, compressed or not, or zip file.
        into: folder to create; it must not exist.
        max_bytes: largest number of bytes to write.
        max_files: largest number of members.

    Returns:
        ``into``.

    Raises:
        FileExistsError: if ``into`` exists.
        UnsafeArchive: if a name is absolute, climbs out of the folder or repeats; a member is a
            link, a device, a sparse file or encrypted; a header is too large; or the archive
            is above a bound.
        ValueError: if the file is damaged, is no archive, or is compressed by a method that
            Python lacks.
        OSError: if the disk has no room.
    """
    if into.exists():
        raise FileExistsError(f"{into} is there already: remove it, or use it as the root")
    into.parent.mkdir(parents=True, exist_ok=True)
    staged = Path(tempfile.mkdtemp(prefix=f".{into.name}-", dir=into.parent))
    try:
        if is_zip(archive):
            extract_zip(archive, staged, max_bytes, max_files)
        else:
            with tarfile.open(archive, tarinfo=_Member) as tar:
                members = _checked(tar, max_bytes, max_files)
                check_room(archive, into.parent, sum(m.size for m in members))
                bar = tqdm(members, desc=f"extracting {archive.name}", delay=2, leave=False)
                for member in bar:
                    _write(tar, member, staged)
        (staged / MARK).write_text(json.dumps(_identity(archive)), encoding="utf-8")
        staged.chmod(0o755)  # a temporary folder is readable by its owner alone
        os.replace(staged, into)
    except UnsafeArchive as error:
        raise UnsafeArchive(f"{archive}: {error}") from None
    except NotImplementedError as error:  # zipfile raises it for an unknown compression method
        raise ValueError(
            f"{archive} cannot be unpacked here ({error}): pack the files again as a plain zip or "
            "tar"
        ) from error
    except DAMAGE as error:
        raise ValueError(f"{archive} is damaged, or no tar archive nor a zip: {error}") from error
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    return into


def is_extracted(archive: Path, into: Path) -> bool:
    """Return True if ``into`` was extracted from ``archive``, False if it does not exist.

    Raises:
        ValueError: if ``into`` exists and was not extracted from this archive.
    """
    if not into.exists():
        return False
    mark = into / MARK
    if _read_mark(mark) != _identity(archive):
        raise ValueError(
            f"{into} was not extracted from {archive} as it stands: remove it, or give it as root"
        )
    return True


def _read_mark(mark: Path) -> Any:
    try:
        return json.loads(mark.read_bytes()) if mark.is_file() else None
    except (ValueError, RecursionError):
        return None


def _identity(archive: Path) -> dict[str, int]:
    status = archive.stat()
    return {"bytes": status.st_size, "modified_ns": status.st_mtime_ns}


def _checked(tar: tarfile.TarFile, max_bytes: int, max_files: int) -> list[tarfile.TarInfo]:
    members: list[tarfile.TarInfo] = []
    names = Names(MARK)
    total = 0
    for member in tar:
        names.check(member.name)
        if not (member.isfile() or member.isdir()):
            raise UnsafeArchive(f"{member.name!r} is a link or a device")
        if member.issparse():
            raise UnsafeArchive(f"{member.name!r} is a sparse file")
        if member.size < 0:
            raise UnsafeArchive(f"{member.name!r} has {member.size} bytes")
        if member.isfile():
            names.add(member.name)
        total += member.size
        members.append(member)
        check_bounds(total, len(members), max_bytes, max_files)
    _check_the_end(tar)
    return members


def _check_the_end(tar: tarfile.TarFile) -> None:
    """Raise if the archive has no end mark; reading to the end checks compressed sums too."""
    stream = tar.fileobj
    assert stream is not None
    stream.seek(tar.offset)
    if stream.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
        raise tarfile.ReadError("it ends before its end mark")
    rest = 0
    while block := stream.read(1 << 20):
        rest += len(block)
        if rest > _PADDING:
            raise UnsafeArchive(f"more than {_PADDING >> 20} MiB come after its end mark")


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, root: Path) -> None:
    target = root / member.name.replace("\\", "/")
    if member.isdir():
        target.mkdir(parents=True, exist_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    source = tar.extractfile(member)
    assert source is not None
    with source, target.open("xb") as sink:
        shutil.copyfileobj(source, sink)
