"""A panel is read by one loader, with the batches and bits of a loader for each split."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, default_collate

from avalanche_proxyfda.metrics import Panel, PanelSet
from avalanche_proxyfda.metrics.panel import SPLITS
from tests.loaders import worker_starts
from tests.plugins.toys import Blobs, Plain

CPU = torch.device("cpu")


def doubled(items: list[Any]) -> Any:
    images, labels = default_collate(items)
    return 2 * images, labels


@pytest.mark.parametrize("workers", [0, 1])
def test_one_loader_reads_all_sets_of_a_panel(
    workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    sets = [
        PanelSet("a", Blobs(60, 3, seed=5), Blobs(30, 3, seed=6), Blobs(33, 3, seed=7)),
        PanelSet("b", Blobs(40, 2, seed=8), Blobs(20, 2, seed=9), collate_fn=doubled),
        PanelSet("c", Blobs(16, 2, seed=10), Blobs(5, 2, seed=11)),
    ]
    model = Plain()
    starts = worker_starts(monkeypatch)
    panel = Panel(sets, batch_size=16, num_workers=workers)
    state = torch.get_rng_state()
    found = panel.of(model, CPU)
    assert starts == [1] * workers and panel.passes == 3
    assert torch.equal(torch.get_rng_state(), state)
    assert list(found) == ["a", "b", "c"]
    model.eval()
    for data in sets:
        splits = [split for split in SPLITS if getattr(data, split) is not None]
        assert list(found[data.name].splits) == splits
        for split in splits:
            rows: list[Tensor] = []
            labels: list[Tensor] = []
            images = getattr(data, split)
            for batch, numbers in DataLoader(images, batch_size=16, collate_fn=data.collate_fn):
                with torch.no_grad():
                    rows.append(model.backbone(batch))
                labels.append(numbers)
            assert torch.equal(found[data.name].rows(split)[0], torch.cat(rows))
            assert torch.equal(found[data.name].rows(split)[1], torch.cat(labels))
