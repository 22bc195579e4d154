"""Tar archives from elsewhere: extracted so that nothing can get out of the folder."""

from __future__ import annotations

import json
import lzma
import os
import shutil
import tarfile
import tempfile
import zlib
from pathlib import Path, PurePosixPath

from tqdm import tqdm

GIB = 1 << 30
_MARK = ".extracted-from.json"


class UnsafeArchive(ValueError):  # noqa: N818 (it says what is wrong)
    """An archive with a member that must not be extracted."""


def extract(
    archive: Path, into: Path, max_bytes: int = 20 * GIB, max_files: int = 1_000_000
) -> Path:
    """Extract ``archive`` to the new folder ``into``, wholly or not at all.

    Only folders and plain files are extracted, to a temporary folder beside ``into`` that is
    renamed at the end; permissions and owners of the archive do not count.

    Args:
        archive: a tar file, compressed or not.
        into: the folder to make; must not exist.
        max_bytes: most bytes that may be written.
        max_files: most members.

    Returns:
        ``into``.

    Raises:
        FileExistsError: when ``into`` is there.
        UnsafeArchive: for absolute or climbing names, links, devices, names that repeat, and
            archives above the bounds.
        ValueError: when the file is damaged, or is no tar archive.
        OSError: when the disk has no room for it.
    """
    if into.exists():
        raise FileExistsError(f"{into} is there already: remove it, or use it as the root")
    into.parent.mkdir(parents=True, exist_ok=True)
    staged = Path(tempfile.mkdtemp(prefix=f".{into.name}-", dir=into.parent))
    try:
        with tarfile.open(archive) as tar:
            members = _checked(tar, archive, max_bytes, max_files)
            needed = sum(m.size for m in members)
            free = shutil.disk_usage(into.parent).free
            if needed > free:
                raise OSError(
                    f"{archive} needs {needed / GIB:.2f} GiB, but {into.parent} has "
                    f"{free / GIB:.2f} GiB left"
                )
            for member in tqdm(members, desc=f"extracting {archive.name}", delay=2, leave=False):
                _write(tar, member, staged)
        (staged / _MARK).write_text(json.dumps(_identity(archive)))
        staged.chmod(0o755)  # a temporary folder is its maker's alone
        os.replace(staged, into)
    except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, FileExistsError) as error:
        raise ValueError(f"{archive} is damaged, or no tar archive: {error}") from error
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    return into


def is_extracted(archive: Path, into: Path) -> bool:
    """Whether ``into`` was extracted from ``archive`` as it stands.

    Raises:
        ValueError: when it is there, but was made of another file.
    """
    if not into.exists():
        return False
    mark = into / _MARK
    if not mark.is_file() or json.loads(mark.read_text()) != _identity(archive):
        raise ValueError(
            f"{into} was not extracted from {archive} as it stands: remove it, or give it as root"
        )
    return True


def _identity(archive: Path) -> dict[str, int]:
    found = archive.stat()
    return {"bytes": found.st_size, "modified_ns": found.st_mtime_ns}


def _checked(
    tar: tarfile.TarFile, archive: Path, max_bytes: int, max_files: int
) -> list[tarfile.TarInfo]:
    members: list[tarfile.TarInfo] = []
    names: set[PurePosixPath] = set()
    total = 0
    for member in tar:
        name = PurePosixPath(member.name.replace("\\", "/"))
        if name.is_absolute() or ".." in name.parts or ":" in name.parts[:1]:
            raise UnsafeArchive(f"{archive}: {member.name!r} would be written outside the folder")
        if not (member.isfile() or member.isdir()):
            raise UnsafeArchive(f"{archive}: {member.name!r} is a link or a device")
        if member.isfile():
            if name in names:
                raise UnsafeArchive(f"{archive}: {member.name!r} is there twice")
            names.add(name)
        total += member.size
        members.append(member)
        if total > max_bytes or len(members) > max_files:
            raise UnsafeArchive(
                f"{archive} holds more than {max_bytes / GIB:.1f} GiB or {max_files} files: raise "
                "the bound if that is right"
            )
    _check_the_end(tar)
    return members


def _check_the_end(tar: tarfile.TarFile) -> None:
    """Raise unless the archive is closed; reading on to its end checks compressed sums too."""
    stream = tar.fileobj
    assert stream is not None
    stream.seek(tar.offset)
    if stream.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
        raise tarfile.ReadError("it ends before its end mark")
    while stream.read(1 << 20):
        pass


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
