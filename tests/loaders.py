"""A count of the loaders that start worker processes."""

from __future__ import annotations

from typing import Any

import pytest
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter


def worker_starts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that gets the number of workers of each later start of a loader's workers."""
    starts: list[int] = []
    begin = _MultiProcessingDataLoaderIter.__init__

    def started(self: Any, loader: Any) -> None:
        starts.append(loader.num_workers)
        begin(self, loader)

    monkeypatch.setattr(_MultiProcessingDataLoaderIter, "__init__", started)
    return starts
