"""A cache in a memory-mapped file of rows, with an index of the rows."""

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

from avalanche_proxyfda._files import remove_leftovers, write_bytes
from avalanche_proxyfda._locks import has_locks, open_lock
from avalanche_proxyfda.features.source import FeatureSource
from avalanche_proxyfda.teacher.cache.store import Rows

VERSION = 1
_ALIGNED = 4096
_DTYPES = {str(d): d for d in (torch.float32, torch.float16, torch.bfloat16, torch.float64)}
_log = logging.getLogger(__name__)


def _seal(content: Mapping[str, Any]) -> str:
    """Return a checksum of an index."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


class CacheFile:
    """Rows in ``<name>.rows`` and their index in ``<name>.json``; one process writes at a time.

    The index is replaced after its rows have reached the disk, and holds their SHA-256. Rows
    that the index does not name are ignored. An index that does not match its rows, its key or
    this version is ignored with a warning, and the rows are computed again.

    Use :meth:`open`.

    Attributes:
        name: name of the files without suffix, a hash of the key.
        writable: True if this process may add rows.
    """

    def __init__(
        self,
        folder: Path,
        key: Mapping[str, Any],
        places: tuple[FeatureSource, ...],
        lock: int | None,
    ) -> None:
        text = json.dumps({"version": VERSION, **key}, sort_keys=True)
        self.name = hashlib.sha256(text.encode()).hexdigest()[:32]
        self.key: dict[str, Any] = json.loads(text)
        self.places = places
        self._rows_path = folder / f"{self.name}.rows"
        self._index_path = folder / f"{self.name}.json"
        self._lock = lock
        self._map: np.memmap[Any, Any] | None = None
        self._layout: list[dict[str, Any]] = []
        self._indexed = 0  # rows that the index names

    @property
    def writable(self) -> bool:
        """True if this process may add rows."""
        return self._lock is not None

    @staticmethod
    def open(
        folder: Path, key: Mapping[str, Any], places: tuple[FeatureSource, ...]
    ) -> CacheFile | None:
        """Open the file of a key in ``folder``.

        Args:
            folder: folder of the files, made if it is missing.
            key: everything that the values depend on.
            places: the places of the teacher, in their order.

        Returns:
            The file; None if another process writes it and has not written an index yet.

        Raises:
            OSError: if the folder cannot be made or written, or the system has no file locks.
        """
        folder.mkdir(parents=True, exist_ok=True)
        file = CacheFile(folder, key, places, None)
        if not has_locks():
            raise OSError("cache_dir needs file locks, which this system lacks: leave it out")
        lock = open_lock(folder / f"{file.name}.lock")
        if lock is None:
            _log.info("another process is writing %s", file._rows_path)
            return file if file._index_path.exists() else None
        file._lock = lock
        remove_leftovers(file._index_path)
        return file

    # ---- reading ----------------------------------------------------------------------

    def read(self) -> tuple[dict[bytes, int], Rows, dict[FeatureSource, torch.dtype]]:
        """Return slots, rows and the teacher's dtypes; all empty without a valid index."""
        try:
            index = self._checked_index()
        except FileNotFoundError:
            return {}, {}, {}
        except (ValueError, LookupError, TypeError, AttributeError, OSError) as error:
            _log.warning(
                "%s is not used, and its rows are computed again: %s", self._rows_path, error
            )
            self._map, self._layout = None, []
            return {}, {}, {}
        names = bytes.fromhex(index["names"])
        self._indexed = index["count"]
        width = len(names) // self._indexed if self._indexed else 1
        slots = {names[k * width : (k + 1) * width]: k for k in range(self._indexed)}
        dtypes = {p: _DTYPES[e["given"]] for p, e in zip(self.places, self._layout, strict=True)}
        return slots, self._tensors(), dtypes

    def _checked_index(self) -> dict[str, Any]:
        """Return the index; raise an error if the index or the rows are not as written."""
        index: dict[str, Any] = json.loads(self._index_path.read_text(encoding="utf-8"))
        if index.pop("seal") != _seal(index):
            raise ValueError("its index is damaged")
        if index["key"] != self.key:
            raise ValueError("its index belongs to another teacher, data set or version")
        layout, count = index["layout"], index["count"]
        if [e["place"] for e in layout] != [str(p) for p in self.places]:
            raise ValueError("its index has other places")
        size = self._rows_path.stat().st_size
        if size != index["bytes"]:
            raise ValueError(f"it has {size} bytes, its index says {index['bytes']}")
        self._layout = layout
        self._map = np.memmap(self._rows_path, np.uint8, "r+" if self.writable else "c")
        if self._hash(count) != index["sha256"]:
            raise ValueError("its rows do not match the checksum of its index")
        return index

    def _tensors(self) -> Rows:
        """Return the mapped rows of every place."""
        assert self._map is not None
        whole = torch.from_numpy(self._map)
        rows: dict[FeatureSource, Tensor] = {}
        for place, entry in zip(self.places, self._layout, strict=True):
            part = whole[entry["start"] : entry["start"] + entry["bytes"]]
            rows[place] = part.view(_DTYPES[entry["dtype"]]).reshape(entry["shape"])
        return rows

    def _hash(self, count: int) -> str:
        """Return the SHA-256 of the first ``count`` rows of every place."""
        assert self._map is not None
        digest = hashlib.sha256()
        for entry in self._layout:
            width = entry["bytes"] // entry["shape"][0]
            digest.update(self._map[entry["start"] : entry["start"] + width * count].data)
        return digest.hexdigest()

    # ---- writing ----------------------------------------------------------------------

    def allocate(self, like: Rows, capacity: int) -> Rows:
        """Reserve disk space for ``capacity`` rows, and return the mapped rows.

        Args:
            like: rows [B, ...] with the shapes and dtypes to reserve for.
            capacity: number of rows.

        Returns:
            Rows [capacity, ...] of every place.

        Raises:
            OSError: if the disk has not enough space.
        """
        self._layout, start = [], 0
        for place in self.places:
            rows = like[place]
            size = capacity * rows[0].numel() * rows.element_size()
            self._layout.append(
                {
                    "place": str(place),
                    "shape": [capacity, *rows.shape[1:]],
                    "dtype": str(rows.dtype),
                    "given": str(rows.dtype),
                    "start": start,
                    "bytes": size,
                }
            )
            start += -(-size // _ALIGNED) * _ALIGNED
        self._index_path.unlink(missing_ok=True)
        with open(self._rows_path, "wb") as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, start)
            else:  # pragma: no cover (macOS)
                file.truncate(start)
        self._map = np.memmap(self._rows_path, np.uint8, "r+")
        return self._tensors()

    def write_index(
        self, slots: Mapping[bytes, int], rows: Rows, kinds: Mapping[FeatureSource, torch.dtype]
    ) -> None:
        """Write the index of ``slots``, after the rows have reached the disk.

        Args:
            slots: row number of each name.
            rows: the mapped rows.
            kinds: the teacher's dtype at each place.

        Raises:
            OSError: naming the index, if it cannot be written.
        """
        if self._map is None or len(slots) == self._indexed:
            return
        self._map.flush()
        for place, entry in zip(self.places, self._layout, strict=True):
            entry["given"] = str(kinds[place])
        content = {
            "key": self.key,
            "layout": self._layout,
            "bytes": self._rows_path.stat().st_size,
            "count": len(slots),
            "names": b"".join(slots).hex(),
            "sha256": self._hash(len(slots)),
        }
        write_bytes(self._index_path, json.dumps({**content, "seal": _seal(content)}).encode())
        self._indexed = len(slots)

    def close(self) -> None:
        """Release the file, so that another process may write it."""
        self._map = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
