"""Locks between processes, by ``flock``; a lock ends with its process, also by SIGKILL."""

from __future__ import annotations

import os
from pathlib import Path

try:
    import fcntl
except ImportError:  # pragma: no cover (Windows)
    fcntl = None  # type: ignore[assignment]


def has_locks() -> bool:
    """Return False where the system has no ``flock``, as Windows."""
    return fcntl is not None


def lock_handle(handle: int, wait: bool = False) -> bool:
    """Lock an open file until it is closed; return False if another open file has the lock.

    Args:
        handle: file descriptor.
        wait: True waits for the lock.

    Raises:
        OSError: if the file system has no locks.
    """
    if fcntl is None:  # pragma: no cover (Windows)
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True


def open_lock(path: Path) -> int | None:
    """Return a handle that holds the lock of ``path`` until it is closed.

    The file is made if it is missing. Its holder may delete it before closing.

    Returns:
        The handle; None if another process has the lock.

    Raises:
        OSError: if the file cannot be made, or the file system has no locks.
    """
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            if not lock_handle(handle):
                os.close(handle)
                return None
            if is_same(handle, path):
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)  # the holder deleted the file before it let the lock go


def is_same(handle: int, path: Path) -> bool:
    """Return True if the open file is still the one at ``path``."""
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False
