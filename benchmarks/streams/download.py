"""Downloads that go on where they broke off and are checked before they are used."""

from __future__ import annotations

import hashlib
import http.client
import os
import shutil
import urllib.error
import urllib.request
from pathlib import Path

from tqdm import tqdm

_BLOCK = 1 << 20
MAX_BYTES = 64 << 30


def file_digest(path: Path, algorithm: str) -> str:
    """Hexadecimal digest of a file."""
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def check_digest(path: Path, sha256: str | None = None, md5: str | None = None) -> None:
    """Raise ValueError unless the file has the digests that are given."""
    for algorithm, wanted in (("sha256", sha256), ("md5", md5)):
        if wanted is None:
            continue
        found = file_digest(path, algorithm)
        if found != wanted.lower():
            raise ValueError(
                f"{path}: its {algorithm} is {found}, not {wanted}: the file is damaged or another"
            )


def download(
    url: str,
    path: Path,
    sha256: str | None = None,
    md5: str | None = None,
    timeout: float = 60.0,
    max_bytes: int = MAX_BYTES,
) -> Path:
    """Fetch ``url`` to ``path``; a file that is there and right is not fetched again.

    What was fetched of a broken-off download (``path`` + ``.part``) is gone on with, if the
    server can; the file gets its name when it is complete and its digest is right.

    Args:
        url: http, https or file.
        path: where it goes.
        sha256: hexadecimal; at least one of the two digests is needed.
        md5: hexadecimal; for publishers that give nothing better.
        timeout: seconds without an answer.
        max_bytes: most that are taken, whatever the server says.

    Returns:
        ``path``.

    Raises:
        ValueError: without a digest, or when the file has another one (it is removed then).
        OSError: when the disk has no room, or the server does not answer, or sends too much.
    """
    if sha256 is None and md5 is None:
        raise ValueError(f"{url}: give sha256 or md5, so that what arrives can be checked")
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
        if error.code == 416:  # nothing is left to fetch
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
            raise OSError(
                f"{url} sends other bytes than were asked for: remove {part} and try again"
            )
        if answer.status != 206:  # a server that cannot resume sends all of it
            done = 0
        left = int(answer.headers.get("Content-Length") or 0)
        free = shutil.disk_usage(part.parent).free
        if left > free:
            raise OSError(f"{url} has {left} bytes to come, but {part.parent} has {free} left")
        with (
            part.open("ab" if done else "wb") as sink,
            tqdm(
                total=done + left or None, initial=done, unit="B", unit_scale=True, delay=2,
                desc=part.stem,
            ) as bar,
        ):  # fmt: skip
            try:
                while block := answer.read1(_BLOCK):
                    if sink.tell() + len(block) > max_bytes:
                        raise OSError(f"{url} sends more than {max_bytes} bytes")
                    sink.write(block)
                    bar.update(len(block))
            except http.client.HTTPException as error:
                raise OSError(f"{url} broke off: run it again to go on") from error
            sink.flush()
            os.fsync(sink.fileno())
    if left and part.stat().st_size < done + left:
        raise OSError(f"{url} broke off after {part.stat().st_size} bytes: run it again to go on")
