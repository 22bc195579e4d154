"""Rows of values by name, in a device's memory or in a mapped file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from avalanche_proxyfda.feature_source import FeatureSource

Rows = dict[FeatureSource, Tensor]
"""What places hold for some samples, [B, ...] each."""
Allocate = Callable[[Rows, int], Rows]
"""Room for ``int`` samples whose values are like those given."""


class FeatureStore:
    """A row for each name and place. Rows are added and never changed.

    What is there is known on the host, so nothing waits for a device.

    Args:
        capacity: rows at most.
        dtype: what values are rounded to; None leaves them.
        allocate: makes the room; None takes the memory of the values' device.

    Attributes:
        slots: row of each name.
        rows: by place; empty before the first are added.
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
        """Bytes of the rows that there is room for."""
        return sum(rows.numel() * rows.element_size() for rows in self.rows.values())

    def rounded(self, values: Rows) -> Rows:
        """Values as they would be kept.

        Raises:
            ValueError: when one is too large for the dtype.
        """
        if self.dtype is None:
            return values
        made = {source: rows.to(self.dtype) for source, rows in values.items()}
        for source, rows in made.items():  # waits for the device, beside a forward
            if bool((rows.isinf() & values[source].isfinite()).any()):
                largest = float(values[source].abs().max())
                raise ValueError(
                    f"cache_dtype='float16' cannot hold values of {str(source)!r} as large as "
                    f"{largest:.3g}: leave cache_dtype out"
                )
        return made

    def add(self, names: Sequence[bytes], values: Rows) -> None:
        """Add rows under names that are not there yet, as far as there is room."""
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
        """The rows of names that are there, on ``device``."""
        slots, made = [self.slots[name] for name in names], {}
        for source, rows in self.rows.items():
            found = rows.index_select(0, index_of(slots, rows.device))
            made[source] = found if found.device == device else _sent(found, device)
        return made

    def state_dict(self) -> dict[str, Any]:
        """Names [n, L] and rows [n, ...] by place; rows are not copied, they do not change."""
        names = b"".join(self.slots)
        table = torch.frombuffer(bytearray(names), dtype=torch.uint8) if names else torch.empty(0)
        rows = {str(source): rows[: len(self)] for source, rows in self.rows.items()}
        return {"names": table.to(torch.uint8).reshape(len(self), -1 if names else 0), "rows": rows}

    def load_state_dict(
        self, state: Mapping[str, Any], places: Sequence[FeatureSource], device: torch.device
    ) -> None:
        """Take rows back, of the same places."""
        named = {str(place): place for place in places}
        names = [bytes(row.tolist()) for row in state["names"].cpu()]
        if names:
            self.add(names, {named[text]: rows.to(device) for text, rows in state["rows"].items()})


def _in_memory(like: Rows, capacity: int) -> Rows:
    return {source: rows.new_empty((capacity, *rows.shape[1:])) for source, rows in like.items()}


def index_of(places: Sequence[int], device: torch.device) -> Tensor:
    """Places as a tensor on ``device``, sent without waiting for it."""
    return _sent(torch.tensor(places, dtype=torch.int64), device)


def _sent(values: Tensor, device: torch.device) -> Tensor:
    if device.type == "cuda" and values.device.type == "cpu":
        return values.pin_memory().to(device, non_blocking=True)
    return values.to(device)
