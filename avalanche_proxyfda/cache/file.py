"""One memory-mapped file of rows, and the index that says what is in it."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from avalanche_proxyfda.cache.store import Rows
from avalanche_proxyfda.feature_source import FeatureSource

try:
    import fcntl
except ImportError:  # pragma: no cover (Windows)
    fcntl = None  # type: ignore[assignment]

VERSION = 1
_ALIGNED = 4096
_DTYPES = {str(d): d for d in (torch.float32, torch.float16, torch.bfloat16, torch.float64)}
_log = logging.getLogger(__name__)


def _seal(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


class CacheFile:
    """Rows in ``<key>.rows``, their index in ``<key>.json``; one process writes at a time.

    The index is written after the rows that it names have reached the disk, in place of the
    one before, and holds their SHA-256. Rows that it does not name do not count, and an index
    that does not fit its rows, its key or this version is dropped with a warning.

    Use :meth:`open`.

    Attributes:
        name: of the files, a hash of the key.
        writable: whether this process may add rows.
    """

    def __init__(self, folder: Path, key: Mapping[str, Any], places: tuple[FeatureSource, ...],
                 lock: int | None) -> None:  # fmt: skip
        text = json.dumps({"version": VERSION, **key}, sort_keys=True)
        self.name = hashlib.sha256(text.encode()).hexdigest()[:32]
        self.key: dict[str, Any] = json.loads(text)
        self.places = places
        self._rows_path = folder / f"{self.name}.rows"
        self._index_path = folder / f"{self.name}.json"
        self._lock = lock
        self._map: np.memmap[Any, Any] | None = None
        self._layout: list[dict[str, Any]] = []
        self._indexed = 0

    @property
    def writable(self) -> bool:
        """Whether this process may add rows."""
        return self._lock is not None

    @staticmethod
    def open(
        folder: Path, key: Mapping[str, Any], places: tuple[FeatureSource, ...]
    ) -> CacheFile | None:
        """The file of a key, in ``folder``.

        None when another process is filling it and has not said yet what is in it.

        Raises:
            OSError: when the folder cannot be made or written.
        """
        folder.mkdir(parents=True, exist_ok=True)
        made = CacheFile(folder, key, places, None)
        if fcntl is None:
            raise OSError("cache_dir needs locks on files, which this system lacks: leave it out")
        lock = os.open(folder / f"{made.name}.lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            _log.info("%s is being filled by another run", made._rows_path)
            return made if made._index_path.exists() else None
        made._lock = lock
        return made

    # ---- what is there ----------------------------------------------------------------

    def read(self) -> tuple[dict[bytes, int], Rows, dict[FeatureSource, torch.dtype]]:
        """Slots, rows and the dtypes that the teacher gave; empty when there is no good index."""
        try:
            index = self._checked_index()
        except FileNotFoundError:
            return {}, {}, {}
        except (ValueError, LookupError, TypeError, AttributeError, OSError) as error:
            _log.warning("%s is not used and made again: %s", self._rows_path, error)
            self._map, self._layout = None, []
            return {}, {}, {}
        names = bytes.fromhex(index["names"])
        self._indexed = index["count"]
        width = len(names) // self._indexed if self._indexed else 1
        slots = {names[k * width : (k + 1) * width]: k for k in range(self._indexed)}
        kinds = {p: _DTYPES[e["given"]] for p, e in zip(self.places, self._layout, strict=True)}
        return slots, self._tensors(), kinds

    def _checked_index(self) -> dict[str, Any]:
        index: dict[str, Any] = json.loads(self._index_path.read_text())
        if index.pop("seal") != _seal(index):
            raise ValueError("its index is not what was written")
        if index["key"] != self.key:
            raise ValueError("its index is of another teacher, data or version")
        layout, count = index["layout"], index["count"]
        if [e["place"] for e in layout] != [str(p) for p in self.places]:
            raise ValueError("its index is of other places")
        size = self._rows_path.stat().st_size
        if size != index["bytes"]:
            raise ValueError(f"it has {size} bytes in place of {index['bytes']}")
        self._layout = layout
        self._map = np.memmap(self._rows_path, np.uint8, "r+" if self.writable else "c")
        if self._hash(count) != index["sha256"]:
            raise ValueError("its rows are not those of its index")
        return index

    def _tensors(self) -> Rows:
        assert self._map is not None
        whole = torch.from_numpy(self._map)
        made: dict[FeatureSource, Tensor] = {}
        for place, entry in zip(self.places, self._layout, strict=True):
            part = whole[entry["start"] : entry["start"] + entry["bytes"]]
            made[place] = part.view(_DTYPES[entry["dtype"]]).reshape(entry["shape"])
        return made

    def _hash(self, count: int) -> str:
        assert self._map is not None
        made = hashlib.sha256()
        for entry in self._layout:
            each = entry["bytes"] // entry["shape"][0]
            made.update(self._map[entry["start"] : entry["start"] + each * count].data)
        return made.hexdigest()

    # ---- writing ----------------------------------------------------------------------

    def allocate(self, like: Rows, capacity: int) -> Rows:
        """Room for ``capacity`` rows, reserved on the disk now rather than missed later.

        Raises:
            OSError: when the disk has no room.
        """
        self._layout, start = [], 0
        for place in self.places:
            rows = like[place]
            size = capacity * rows[0].numel() * rows.element_size()
            self._layout.append({
                "place": str(place), "shape": [capacity, *rows.shape[1:]],
                "dtype": str(rows.dtype), "given": str(rows.dtype), "start": start, "bytes": size,
            })  # fmt: skip
            start += -(-size // _ALIGNED) * _ALIGNED
        self._index_path.unlink(missing_ok=True)
        with open(self._rows_path, "wb") as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, start)
            else:  # pragma: no cover (macOS)
                file.truncate(start)
        self._map = np.memmap(self._rows_path, np.uint8, "r+")
        return self._tensors()

    def write_index(self, slots: Mapping[bytes, int], rows: Rows,
                    kinds: Mapping[FeatureSource, torch.dtype]) -> None:  # fmt: skip
        """Say what is in the file, once that has reached the disk."""
        if self._map is None or len(slots) == self._indexed:
            return
        self._map.flush()
        for place, entry in zip(self.places, self._layout, strict=True):
            entry["given"] = str(kinds[place])
        content = {
            "key": self.key, "layout": self._layout, "bytes": self._rows_path.stat().st_size,
            "count": len(slots), "names": b"".join(slots).hex(), "sha256": self._hash(len(slots)),
        }  # fmt: skip
        beside = self._index_path.with_suffix(".json.part")
        with open(beside, "w") as file:
            json.dump({**content, "seal": _seal(content)}, file)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self._index_path)
        self._indexed = len(slots)

    def close(self) -> None:
        """Let another process write."""
        self._map = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
