"""Packs: a data set in one ``.npz`` of encoded images, nothing of it pickled.

Keys: ``{train,test}_buf`` uint8, all encoded images of a split back to back; ``{train,test}_off``
int64 [n + 1], where each begins; ``{train,test}_y`` int64 [n]; ``class_names`` str [C];
``meta`` str, JSON.
"""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import Dataset

from benchmarks.streams.images import decode


class PackedImages(Dataset[tuple[Any, int]]):
    """One split of a pack: RGB images of PIL with their labels."""

    def __init__(
        self, name: str, buffer: NDArray[np.uint8], offsets: NDArray[np.int64], targets: list[int]
    ) -> None:
        self.name = name
        self.buffer, self.offsets, self.targets = buffer, offsets, targets

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        encoded = self.buffer[self.offsets[index] : self.offsets[index + 1]].tobytes()
        return decode(io.BytesIO(encoded), f"{self.name}, image {index}"), self.targets[index]


def read_pack(path: Path) -> tuple[PackedImages, PackedImages, tuple[str, ...], dict[str, Any]]:
    """Train and test of a pack, its class names, and its ``meta``.

    Raises:
        FileNotFoundError: when it is not there.
        ValueError: when keys are missing, offsets or labels do not fit, or names repeat.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no pack at {path}")
    try:
        opened = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is no pack of images: {error}") from error
    if not isinstance(opened, np.lib.npyio.NpzFile):
        raise ValueError(f"{path} is no pack of images, but a single array")
    with opened as pack:
        needed = {f"{s}_{k}" for s in ("train", "test") for k in ("buf", "off", "y")}
        missing = sorted((needed | {"class_names"}) - set(pack.files))
        if missing:
            raise ValueError(f"{path} is no pack of images: it lacks {', '.join(missing)}")
        names = tuple(str(name) for name in pack["class_names"])
        if len(set(names)) < len(names):
            raise ValueError(f"{path}: names of classes repeat")
        parts = []
        for split in ("train", "test"):
            buffer, offsets = pack[f"{split}_buf"], pack[f"{split}_off"].astype(np.int64)
            targets = [int(y) for y in pack[f"{split}_y"]]
            steady = len(offsets) == len(targets) + 1 and offsets[0] == 0
            if not steady or offsets[-1] != len(buffer) or (np.diff(offsets) <= 0).any():
                raise ValueError(f"{path}: the offsets of {split} do not fit its images")
            if targets and not 0 <= min(targets) <= max(targets) < len(names):
                raise ValueError(f"{path}: labels of {split} are not below {len(names)} classes")
            parts.append(PackedImages(f"{path.name}/{split}", buffer, offsets, targets))
        meta = json.loads(str(pack["meta"])) if "meta" in pack.files else {}
    return parts[0], parts[1], names, meta
