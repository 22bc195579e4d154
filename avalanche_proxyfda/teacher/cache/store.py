"""A table of cached values by name, in a device's memory or in a mapped file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from avalanche_proxyfda._accelerator import pins_memory
from avalanche_proxyfda.features.source import FeatureSource

Rows = dict[FeatureSource, Tensor]
"""The values of every place for some samples, [B, ...] each."""
Allocate = Callable[[Rows, int], Rows]
"""Takes example rows and a capacity; returns empty rows [capacity, ...] like the examples."""


class FeatureStore:
    """One row for each name and place. Rows are added and never changed.

    The names are in host memory, so a look-up does not wait for the device.

    Args:
        capacity: maximum number of rows.
        dtype: dtype that values are rounded to; None leaves them unrounded.
        allocate: reserves the memory; None reserves it on the values' device.

    Attributes:
        slots: row number of each name.
        rows: [capacity, ...] by place; empty before the first row is added.
    """

    def __init__(
        self, capacity: int, dtype: torch.dtype | None = None, allocate: Allocate | None = None
    ) -> None:
        self.capacity, self.dtype = capacity, dtype
        self.slots: dict[bytes, int] = {}
        self.rows: Rows = {}
        self._allocate = allocate or _in_memory

    def __len__(self) -> int:
        return len(self.slots)

    def __contains__(self, name: bytes) -> bool:
        return name in self.slots

    @property
    def nbytes(self) -> int:
        """Reserved memory in bytes."""
        return sum(rows.numel() * rows.element_size() for rows in self.rows.values())

    def rounded(self, values: Rows) -> Rows:
        """Return the values in the store's dtype.

        Raises:
            ValueError: if a finite value is too large for the dtype.
        """
        if self.dtype is None:
            return values
        rounded = {source: rows.to(self.dtype) for source, rows in values.items()}
        for source, rows in rounded.items():  # waits for the device, next to a forward
            if bool((rows.isinf() & values[source].isfinite()).any()):
                largest = float(values[source].abs().max())
                raise ValueError(
                    f"cache_dtype='float16' cannot hold values of {str(source)!r} as large as "
                    f"{largest:.3g}: leave cache_dtype out"
                )
        return rounded

    def add(self, names: Sequence[bytes], values: Rows) -> None:
        """Add rows under new names; skip the rows beyond the capacity.

        Raises:
            torch.OutOfMemoryError: if the device has no memory for the first rows' table.
        """
        first = len(self.slots)
        count = min(len(names), self.capacity - first)
        if count <= 0:
            return
        if not self.rows:
            self.rows = self._allocate(values, self.capacity)
        for source, rows in self.rows.items():
            rows[first : first + count].copy_(values[source][:count])
        self.slots.update({name: first + k for k, name in enumerate(names[:count])})

    def gather(self, names: Sequence[bytes], device: torch.device) -> Rows:
        """Return the rows of stored names, [len(names), ...] by place, on ``device``."""
        slots = [self.slots[name] for name in names]
        gathered: Rows = {}
        for source, rows in self.rows.items():
            part = rows.index_select(0, index_of(slots, rows.device))
            gathered[source] = part if part.device == device else _sent(part, device)
        return gathered

    def state_dict(self) -> dict[str, Any]:
        """Return names [n, L] and rows [n, ...] by place, without copying the rows."""
        names = b"".join(self.slots)
        table = torch.frombuffer(bytearray(names), dtype=torch.uint8) if names else torch.empty(0)
        rows = {str(source): rows[: len(self)] for source, rows in self.rows.items()}
        return {"names": table.to(torch.uint8).reshape(len(self), -1 if names else 0), "rows": rows}

    def load_state_dict(
        self, state: Mapping[str, Any], places: Sequence[FeatureSource], device: torch.device
    ) -> None:
        """Add the rows of a saved state.

        Args:
            state: the result of :meth:`state_dict` for the same places.
            places: the places of the teacher.
            device: device of the rows.

        Raises:
            torch.OutOfMemoryError: if the device has no memory for the table.
        """
        place_of = {str(place): place for place in places}
        names = [bytes(row.tolist()) for row in state["names"].cpu()]
        if names:
            values = {place_of[text]: rows for text, rows in state["rows"].items()}
            # no second copy of all rows on the device
            like = {place: rows[:1].to(device) for place, rows in values.items()}
            self.rows = self._allocate(like, self.capacity)
            self.add(names, values)


def _in_memory(like: Rows, capacity: int) -> Rows:
    return {source: rows.new_empty((capacity, *rows.shape[1:])) for source, rows in like.items()}


def index_of(places: Sequence[int], device: torch.device) -> Tensor:
    """Return row numbers as an int64 tensor on ``device``, without waiting for the device."""
    return _sent(torch.tensor(places, dtype=torch.int64), device)


def _sent(values: Tensor, device: torch.device) -> Tensor:
    if values.device.type == "cpu" and pins_memory(device):
        return values.pin_memory().to(device, non_blocking=True)
    return values.to(device)
