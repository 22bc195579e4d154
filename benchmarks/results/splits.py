"""The identity of the images of a sequence of data sets, by their contents and not by a path."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from benchmarks.results.places import kind_and_place
from benchmarks.results.record import Record


def split_hash(sets: Sequence[tuple[str, str]]) -> str:
    """Return the SHA-256 of the splits of a sequence.

    A folder counts by its class names, the contents of its files and their splits. The rows of a
    pack and of a set of torchvision have numbers for names, so the name of the set counts too: of
    a pack, the name of its file.

    Args:
        sets: name and SHA-256 of each data set, see
            :attr:`avalanche_proxyfda.streams.files.labelled.DataSet.sha256`.
    """
    return _hash([(_word(name), sha256) for name, sha256 in sets])


def same_split(record: Record, summary: Mapping[str, Any]) -> bool:
    """Return True if a finished record is of the images of a stream, in the stream's order.

    Older records hashed a folder with the path that the configuration had. They have no hash for
    each data set, so the order of theirs is not compared.

    Args:
        record: a finished record.
        summary: the stream's description of itself.
    """
    assert record.stream is not None
    then, hashes = set_hashes(record.stream.summary), set_hashes(summary)
    if then is not None and hashes is not None and then != hashes:
        return False
    if record.stream.split_sha256 == summary.get("split_sha256"):
        return True
    names = record.config["stream"].get("sets", ())
    if hashes is None or len(names) != len(hashes):
        return False
    return record.stream.split_sha256 == _hash(list(zip(names, hashes, strict=True)))


def set_hashes(summary: Mapping[str, Any]) -> list[str] | None:
    """Return the SHA-256 of each data set of a stream, in its order.

    Args:
        summary: the stream's description of itself.

    Returns:
        The list; None if the description has no data sets, or is older than their hashes.
    """
    hashes = [about.get("sha256") for about in summary.get("sets", ())]
    return hashes if hashes and None not in hashes else None


def _word(name: str) -> str:
    kind, place = kind_and_place(name)
    if kind == "folder:":
        return kind
    return f"{kind}{PurePosixPath(place).name}" if kind else name


def _hash(sets: Sequence[tuple[str, str]]) -> str:
    """Return the SHA-256 of sorted lines, as
    :func:`avalanche_proxyfda.streams.files.images.list_hash` does.
    """
    lines = sorted(f"{name} {sha256}\n" for name, sha256 in sets)
    return hashlib.sha256("".join(lines).encode()).hexdigest()
