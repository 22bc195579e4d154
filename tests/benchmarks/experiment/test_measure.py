"""The benchmarks measure a panel by the package's functions and its table of measures."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from avalanche_proxyfda.metrics import (
    MEASURES,
    Measure,
    Panel,
    PanelSet,
    defined_drift,
    measure_names,
    probe_accuracies,
    zero_shot_accuracies,
)
from avalanche_proxyfda.models import TextHead
from benchmarks.config import read
from benchmarks.experiment.measure import PanelMoment, measure_panel
from benchmarks.streams.panel import PanelData
from tests.plugins.toys import Blobs, backbone

CPU = torch.device("cpu")


class Tower(nn.Module):
    """A model with a ``tower``, as the benchmarks build it."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.tower = backbone()
        source = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for weight in self.tower.parameters():
                weight += 0.1 * torch.randn(weight.shape, generator=source)

    def forward(self, images: Tensor) -> Any:
        return self.tower(images)


def panel() -> list[PanelData]:
    sizes = {"a": (30, 30), "b": (9, 20)}
    return [
        PanelData(
            PanelSet(name, Blobs(60, 3, seed=5), Blobs(test, 3, seed=6), Blobs(val, 3, seed=7)),
            counts={},
            sha256="",
            dropped={},
            classes=(),
        )
        for name, (test, val) in sizes.items()
    ]


def heads() -> dict[str, TextHead]:
    width = Tower(0).tower(Blobs(3, 3).images).shape[1]
    return {"a": TextHead(torch.randn(3, width, generator=torch.Generator().manual_seed(0)))}


def moment(seed: int) -> PanelMoment:
    config = read({"train": {"lr": 1e-4, "eval_batch": 16}})
    return measure_panel(Tower(seed), panel(), heads(), config, CPU)


def test_values_are_those_of_the_package() -> None:
    first, second = moment(0), moment(1)
    sets = [data.images for data in panel()]
    features = Panel(sets, "tower", batch_size=16).of(Tower(1), CPU)
    for split in ("validation", "test"):
        assert second.linear_probe[split] == {
            name: probe_accuracies(of_set)[split] for name, of_set in features.items()
        }
        assert second.zero_shot is not None
        assert second.zero_shot[split] == {
            "a": zero_shot_accuracies(features["a"], heads()["a"])[split]
        }
    drift = second.drift_since(first)
    for name, of_set in features.items():
        rows, labels = of_set.splits["test"]
        before = first.features[name][0]
        assert drift[name] == defined_drift(before, rows, labels, measure_names())
    assert drift["b"]["neighbors"] is None and (drift["b"]["l2"] or 0) > 0  # nine images, K = 10
    assert (drift["a"]["neighbors"] or 0) > 0


def test_a_measure_that_is_registered_is_in_the_drift_of_the_record(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def gap(before: Tensor, after: Tensor, labels: Tensor, k: int) -> float:
        return float((before - after).abs().max()) + len(labels)

    first, second = moment(0), moment(1)
    before = list(second.drift_since(first)["a"])
    assert before == list(measure_names()) and before[:3] == ["l2", "cka", "neighbors"]
    monkeypatch.setitem(MEASURES, "gap", Measure(gap, "_Gap"))
    monkeypatch.setitem(MEASURES, "slow gap", Measure(gap, "_SlowGap", optional=True))
    drift = second.drift_since(first)
    assert list(drift["a"]) == [*before, "gap"]
    assert (drift["a"]["gap"] or 0) > 30 and 9 < (drift["b"]["gap"] or 0) < 30
    assert second.drift_since(second)["a"]["gap"] == 30
    pytest.importorskip("ot")
    with_optional = second.drift_since(first, optional=True)["a"]
    assert list(with_optional) == [*MEASURES] and with_optional["slow gap"] == drift["a"]["gap"]


def test_an_empty_panel_has_no_values() -> None:
    config = read({"train": {"lr": 1e-4}})
    empty = measure_panel(Tower(0), [], None, config, CPU)
    assert empty.linear_probe == {"validation": {}, "test": {}}
    assert empty.zero_shot is None and empty.features == {}
