"""Paths, and atomic writes: a reader sees the old file or the new file, never a part of one."""

from __future__ import annotations

import glob
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from avalanche_proxyfda._locks import has_locks, is_same, lock_handle

_TRIES = 200


def expanded(path: str | os.PathLike[str]) -> Path:
    """Return ``path`` with ``~`` and ``~user`` replaced by the home folder.

    Raises:
        ValueError: if the user has no home folder here.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ValueError(f"{str(path)!r}: {error}; give the whole path") from error


def check_folder(name: str, folder: Path) -> None:
    """Check that files can be written to a folder, which need not exist yet.

    Args:
        name: name of the argument that gives the folder.
        folder: the folder.

    Raises:
        ValueError: if the folder or one above it is a file, or cannot be written.
    """
    present = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not present.is_dir():
        raise ValueError(f"{name}={str(folder)!r}: {present} is a file: give a folder")
    if not os.access(present, os.W_OK | os.X_OK):
        raise ValueError(
            f"{name}={str(folder)!r}: nothing can be written to {present}: give another folder"
        )


@contextmanager
def replacing(path: Path, previous: Path | None = None) -> Iterator[Path]:
    """Yield a temporary path that becomes ``path`` when the block ends without an exception.

    The temporary file stands beside ``path`` and is called ``.{name}-*.tmp``. Its content
    reaches the disk before the rename. After an exception the temporary file is removed and
    ``path`` is unchanged. Only a process that is killed leaves a temporary file, see
    :func:`remove_leftovers`. The file is locked, so that no other process takes it for one of
    these.

    Args:
        path: the file to write; missing folders are made.
        previous: where the file that stands at ``path`` goes, just before the new file takes
            its place; None replaces it.

    Raises:
        OSError: naming ``path``, if the file cannot be written, in the block or here.
    """
    try:
        handle, name = _temporary(path)
        try:
            yield Path(name)
            with open(name, "r+b") as file:
                os.fsync(file.fileno())
            os.chmod(name, 0o644)  # mkstemp gives access to the owner alone
            if previous is not None:
                with suppress(FileNotFoundError):  # there is none, or another process moved it
                    os.replace(path, previous)
            os.replace(name, path)
        except BaseException:
            with suppress(OSError):  # the first exception counts
                os.unlink(name)
            raise
        finally:
            if handle is not None:
                os.close(handle)
        sync_folder(path.parent)
    except OSError as error:
        # a full disk names no file, and a read-only folder names the temporary file
        if error.errno is None:
            raise OSError(f"{path} cannot be written: {error}") from error
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error


def _temporary(path: Path) -> tuple[int | None, str]:
    """Make the temporary file of ``path``; return a handle with its lock, and its name.

    Where there are no locks the handle is None: an open file could not be renamed on Windows.
    """
    for left in reversed(range(_TRIES)):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-", suffix=".tmp")
        except (FileNotFoundError, FileExistsError):
            if not left:
                raise
            continue  # another process has just deleted the empty folder
        if not has_locks():  # pragma: no cover (Windows)
            os.close(handle)
            return None, name
        try:
            if lock_handle(handle, wait=True) and is_same(handle, Path(name)):
                return handle, name
        except OSError:  # a file system without locks
            return handle, name
        os.close(handle)  # another process removed the file before it was locked
    raise OSError(f"other processes delete its temporary files ({_TRIES} of them)")


def write_bytes(path: Path, content: bytes) -> None:
    """Write ``content`` as the whole of ``path``, atomically.

    Raises:
        OSError: naming ``path``, if the file cannot be written. The old file then stays, and
            no temporary file is left beside it.
    """
    with replacing(path) as temporary, open(temporary, "wb") as file:
        file.write(content)


def sync_folder(folder: Path) -> None:
    """Make renames in ``folder`` survive a power failure, if the system can open folders."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def remove_leftovers(path: Path) -> None:
    """Remove the temporary files of writes of ``path`` that were killed.

    Files of processes that are writing stay. Where the system has no locks, no process may be
    writing ``path`` meanwhile.
    """
    _remove(path.parent.glob(f".{glob.escape(path.name)}-*.tmp"))


def remove_all_leftovers(folder: Path) -> None:
    """Remove the temporary files of killed writes of all files in ``folder``.

    See :func:`remove_leftovers`.
    """
    _remove(folder.glob(".*-*.tmp"))


def _is_locked(handle: int) -> bool:
    """Return True if another open file has the lock; else this one has it from now on."""
    try:
        return not lock_handle(handle)
    except OSError:  # a file system without locks
        return False


def _remove(leftovers: Iterable[Path]) -> None:
    for leftover in leftovers:
        with suppress(FileNotFoundError):
            handle = os.open(leftover, os.O_RDWR) if has_locks() else None
            try:
                if handle is None or not _is_locked(handle):
                    leftover.unlink()
            finally:
                if handle is not None:
                    os.close(handle)
