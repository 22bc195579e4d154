"""Packs: a data set in one ``.npz`` file of encoded images, without pickled objects.

Keys: ``{train,test}_buf`` uint8 [bytes], the encoded images of a split back to back;
``{train,test}_off`` int64 [n + 1], the offset of each image; ``{train,test}_y`` int64 [n],
labels; ``class_names`` str [C]; ``meta`` str, JSON.
"""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import Dataset

from avalanche_proxyfda._names import nearest
from avalanche_proxyfda.streams.files.images import decode

# exceptions that NumPy and zipfile raise for damaged and hostile files
DAMAGE = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    LookupError,
    MemoryError,
    RuntimeError,
    SyntaxError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)
MAX_BYTES = 32 << 30
"""Largest size of a pack's arrays in memory, in bytes."""


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
    """Read a pack.

    Returns:
        The train split, the test split, the class names, and ``meta``.

    Raises:
        FileNotFoundError: if there is no file.
        ValueError: if a key is missing, has another type or holds objects; offsets or labels do
            not fit; class names repeat; or the file is damaged or above :data:`MAX_BYTES`.
    """
    if not path.is_file():
        near = nearest(path.name, (each.name for each in path.parent.glob("*.npz")))
        hint = f"; near ones beside it: {', '.join(near)}" if near else ""
        raise FileNotFoundError(f"there is no pack at {path}{hint or ': check the path'}")
    try:
        return _parts(path)
    except UnfitPackError as error:
        raise ValueError(f"{path}: {error}") from None
    except DAMAGE as error:
        raise ValueError(f"{path} is no pack of images: {error}") from error


class UnfitPackError(ValueError):
    """A pack whose parts do not fit each other."""


def _parts(path: Path) -> tuple[PackedImages, PackedImages, tuple[str, ...], dict[str, Any]]:
    opened = np.load(path, allow_pickle=False)
    if not isinstance(opened, np.lib.npyio.NpzFile):
        raise ValueError("it holds a single array")
    with opened as pack:
        needed = {f"{s}_{k}" for s in ("train", "test") for k in ("buf", "off", "y")}
        missing = sorted((needed | {"class_names"}) - set(pack.files))
        if missing:
            raise ValueError(f"it lacks {', '.join(missing)}")
        members = pack.zip.infolist() if pack.zip is not None else []
        unpacked = sum(int(member.file_size) for member in members)
        if unpacked > MAX_BYTES:
            raise ValueError(f"{unpacked} bytes when it is unpacked are more than {MAX_BYTES}")
        names = tuple(str(name) for name in _array(pack, "class_names", "U"))
        if len(set(names)) < len(names):
            raise UnfitPackError("class names repeat")
        parts = []
        for split in ("train", "test"):
            buffer = _array(pack, f"{split}_buf", "u").astype(np.uint8, casting="no", copy=False)
            offsets = _array(pack, f"{split}_off", "iu").astype(np.int64)
            targets = [int(y) for y in _array(pack, f"{split}_y", "iu")]
            fits = len(offsets) == len(targets) + 1 and offsets[0] == 0
            if not fits or offsets[-1] != len(buffer) or (np.diff(offsets) <= 0).any():
                raise UnfitPackError(f"the offsets of {split} do not fit its images")
            if targets and not 0 <= min(targets) <= max(targets) < len(names):
                raise UnfitPackError(f"labels of {split} are not below {len(names)} classes")
            parts.append(PackedImages(f"{path.name}/{split}", buffer, offsets, targets))
        meta = json.loads(str(pack["meta"])) if "meta" in pack.files else {}
        if not isinstance(meta, dict):
            raise ValueError("its meta is no JSON object")
    return parts[0], parts[1], names, meta


def _array(pack: Any, key: str, kinds: str) -> NDArray[Any]:
    """The array ``key`` of a pack; it has one dimension and a dtype of one of ``kinds``."""
    array: NDArray[Any] = pack[key]
    if array.ndim != 1 or array.dtype.kind not in kinds:
        raise ValueError(f"{key} is {array.dtype} {list(array.shape)}")
    return array
