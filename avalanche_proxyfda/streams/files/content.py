"""Hashes of the contents of images, and splits by them: the same under any name, on any machine."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tqdm import tqdm

from avalanche_proxyfda.streams.files.download import file_digest
from avalanche_proxyfda.streams.files.images import ImageFiles, list_hash
from avalanche_proxyfda.streams.files.labelled import SPLITS, Labelled
from avalanche_proxyfda.streams.files.packs import PackedImages

TEST_SHARE = 0.2
"""Share of each class that becomes the test split where none is published."""


def content_digests(paths: Sequence[Path], about: str, workers: int = 4) -> list[str | None]:
    """SHA-256 of each file; None for a broken link and for any other file that cannot be read.

    Args:
        paths: [N] paths.
        about: label of the progress bar, which appears after five seconds.
        workers: number of threads.
    """
    with ThreadPoolExecutor(workers) as pool:
        digests = pool.map(_digest, paths)
        return list(tqdm(digests, total=len(paths), desc=about, delay=5, leave=False))


def identify_by_content(files: ImageFiles, about: str) -> None:
    """Make name and SHA-256 the identity of each image: another name changes it, other pixels too.

    The order of images, and so the batches of a seed, follow the names.

    Args:
        files: the images, which get ``digests`` and ``keys``.
        about: label of the progress bar, see :func:`content_digests`.
    """
    files.digests = content_digests(files.paths, about)
    names = zip(files.names, files.digests, strict=True)
    files.keys = [f"{name} {digest}" for name, digest in names]


def images_hash(part: Labelled) -> str | None:
    """Hash of the contents of images, under any name and in any order.

    Args:
        part: images of a folder, of lists or of a pack.

    Returns:
        The hash; None for images whose contents are not hashed, such as torchvision's.
    """
    source = part.source
    if isinstance(source, PackedImages):
        ends = [(source.offsets[row], source.offsets[row + 1]) for row in part.rows]
        return list_hash([hashlib.sha256(source.buffer[a:b].data).hexdigest() for a, b in ends])
    if not isinstance(source, ImageFiles) or source.digests is None:
        return None
    return list_hash([str(source.digests[row]) for row in part.rows])


def _digest(path: Path) -> str | None:
    try:
        return file_digest(path, "sha256") if path.is_file() else None  # a pipe would never end
    except OSError:
        return None


def split_by_content(
    digests: Sequence[str], labels: Sequence[int], share: float, seed: int
) -> dict[str, list[int]]:
    """Divide each class into train, validation and test by the hashes of its images.

    The :data:`TEST_SHARE` of a class with the smallest hashes is its test split, for every
    seed. Of the rest, ``share`` becomes the validation split. Images of equal content stay
    together. A class of two images has no validation image. A class of one image has only a
    training image. A share of 0 leaves the validation split empty.

    Args:
        digests: [N] hashes of the images.
        labels: [N] labels of the images.
        share: share of each class's remaining images that becomes the validation split.
        seed: seed of the validation split.

    Returns:
        Rows of each split, by label and hash; the order does not depend on names.

    >>> from avalanche_proxyfda.streams.files.content import split_by_content
    >>> split_by_content(["c", "a", "b", "d"], [0, 0, 0, 0], 0.1, 0)["test"]
    [1]
    """
    split_of: dict[tuple[int, str], str] = {}
    for label in sorted(set(labels)):
        contents = sorted({d for d, other in zip(digests, labels, strict=True) if other == label})
        test = _count(TEST_SHARE, len(contents))
        rest = sorted(
            contents[test:], key=lambda d: hashlib.sha256(f"{seed} {d}".encode()).digest()
        )
        validation = rest[: _count(share, len(rest))] if share else []
        split_of |= {(label, d): "train" for d in rest}
        split_of |= {(label, d): "test" for d in contents[:test]}
        split_of |= {(label, d): "validation" for d in validation}
    rows: dict[str, list[int]] = {split: [] for split in SPLITS}
    order = sorted(range(len(labels)), key=lambda k: (labels[k], digests[k]))
    for k in order:
        rows[split_of[labels[k], digests[k]]].append(k)
    return rows


def _count(share: float, images: int) -> int:
    return max(1, round(share * images)) if images > 1 else 0
