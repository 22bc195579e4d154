"""Downloads that resume after an interruption and are checked against a digest."""

from __future__ import annotations

import hashlib
import http.client
import os
import shutil
import urllib.error
import urllib.request
from pathlib import Path

from tqdm import tqdm

MAX_BYTES = 64 << 30
"""Largest download, in bytes."""

_BLOCK = 1 << 20


def file_digest(path: Path, algorithm: str) -> str:
    """Hexadecimal digest of a file, by an algorithm of :mod:`hashlib`."""
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def check_digest(path: Path, sha256: str | None = None, md5: str | None = None) -> None:
    """Raise ValueError if a given digest differs from the digest of the file."""
    for algorithm, wanted in (("sha256", sha256), ("md5", md5)):
        if wanted is None:
            continue
        actual = file_digest(path, algorithm)
        if actual != wanted.lower():
            raise ValueError(
                f"{path}: its {algorithm} is {actual}, not {wanted}: the file is damaged or "
                "another; remove it and fetch it again"
            )


def download(
    url: str,
    path: Path,
    sha256: str | None = None,
    md5: str | None = None,
    timeout: float = 60.0,
    max_bytes: int = MAX_BYTES,
) -> Path:
    """Download ``url`` to ``path``, if no file with the right digest is there yet.

    The download goes to ``path`` + ``.part``. An interrupted download resumes, if the server
    can. The file gets its name when it is complete and its digest is right.

    Args:
        url: address with the scheme http, https or file.
        path: file to write.
        sha256: hexadecimal digest; this or ``md5`` is needed.
        md5: hexadecimal digest, for publishers that give no better one.
        timeout: longest wait for an answer, in seconds.
        max_bytes: largest download, in bytes, whatever size the server reports.

    Returns:
        ``path``.

    Raises:
        ValueError: if no digest is given, or the digest differs. A download with another
            digest is removed.
        OSError: if the disk has no room, the server does not answer, or the server sends more
            than ``max_bytes``.
    """
    if sha256 is None and md5 is None:
        raise ValueError(f"{url}: give sha256 or md5, so that the download can be checked")
    if path.exists():
        check_digest(path, sha256, md5)
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    _fetch(url, part, timeout, max_bytes)
    try:
        check_digest(part, sha256, md5)
    except ValueError:
        part.unlink()
        raise
    os.replace(part, path)
    return path


def _fetch(url: str, part: Path, timeout: float, max_bytes: int) -> None:
    done = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={done}-"} if done else {})
    try:
        answer = urllib.request.urlopen(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # the part is complete
            return
        raise OSError(f"{url}: the server answers {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        raise OSError(
            f"{url} cannot be reached ({error.reason}): fetch it on a machine with a network and "
            f"put it at {part.with_suffix('')}"
        ) from error
    with answer:
        begins = str(answer.headers.get("Content-Range", "")).removeprefix("bytes ").split("-")[0]
        if answer.status == 206 and begins != str(done):
            raise OSError(f"{url} does not send the requested bytes: remove {part} and run again")
        if answer.status != 206:  # a server that cannot resume sends the whole file
            done = 0
        left = int(answer.headers.get("Content-Length") or 0)
        free = shutil.disk_usage(part.parent).free
        if left > free:
            raise OSError(f"{url} has {left} bytes to come, but {part.parent} has {free} left")
        with (
            part.open("ab" if done else "wb") as sink,
            tqdm(
                total=done + left or None,
                initial=done,
                unit="B",
                unit_scale=True,
                delay=2,
                desc=part.stem,
            ) as bar,
        ):
            try:
                while block := answer.read1(_BLOCK):
                    if sink.tell() + len(block) > max_bytes:
                        raise OSError(f"{url} sends more than {max_bytes} bytes")
                    sink.write(block)
                    bar.update(len(block))
            except http.client.HTTPException as error:
                raise OSError(f"{url} was interrupted: run again to resume") from error
            sink.flush()
            os.fsync(sink.fileno())
    if left and part.stat().st_size < done + left:
        raise OSError(
            f"{url} was interrupted after {part.stat().st_size} bytes: run again to resume"
        )
