"""A resumed training publishes the panel's values of an unbroken one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import nn

from avalanche_proxyfda.checkpoint import save
from avalanche_proxyfda.checkpoint.tree import decode, encode
from avalanche_proxyfda.metrics import (
    DriftMetric,
    KNNMetric,
    LinearProbeMetric,
    Panel,
    PanelMetric,
    PanelSet,
    panel_metrics,
)
from avalanche_proxyfda.models import TextHead
from tests.checkpoint.training import BreakOff, BrokenOffError, alike, build, train
from tests.plugins.toys import Blobs, Plain, classic

TEST_IMAGES = 31


def metrics_of() -> list[PanelMetric]:
    """New metrics of all kinds, of one new panel."""
    torch.manual_seed(0)
    heads: dict[str, nn.Module] = {"a": TextHead(torch.randn(3, 8))}
    panel = Panel([PanelSet("a", Blobs(40, 3, seed=5), Blobs(TEST_IMAGES, 3, seed=6))])
    measures = ("l2", "cka", "neighbors")
    previous = DriftMetric(panel, measures, "previous", num_neighbors=4)
    return [*panel_metrics(panel, knn=True, zero_shot=heads, drift=measures), previous]


def with_panel(step: int | None, metrics: list[PanelMetric] | None = None) -> Any:
    """A new strategy, with new metrics, that is broken off at ``step``."""
    strategy = build(Plain, BreakOff(step))
    strategy.evaluator.metrics.extend(metrics_of() if metrics is None else metrics)
    return strategy


def histories(strategy: Any) -> list[Any]:
    return [m.history for m in strategy.evaluator.metrics if isinstance(m, PanelMetric)]


@pytest.mark.parametrize("later", [1, 5], ids=["early", "in the second epoch"])
def test_a_panel_has_the_same_values_after_a_resume(tmp_path: Path, later: int) -> None:
    whole = train(with_panel(None), classic(2), tmp_path / "whole", every=None)
    step = whole.clock.train_iterations // 2 + later  # within the second experience
    with pytest.raises(BrokenOffError):
        train(with_panel(step), classic(2), tmp_path / "broken", every=1)
    metrics = metrics_of()
    again = train(with_panel(None, metrics), classic(2), tmp_path / "broken", every=1)
    assert metrics[0].panel.passes == 1  # after the second experience, and no earlier moment
    assert histories(again) == histories(whole) and alike(whole, again)
    probe, _, zero_shot, drift, previous = histories(again)
    assert len(probe) == 3 and "Delta_LP/a" in probe[2] and "Delta_ZS/a" in zero_shot[2]
    assert drift[2]["Drift_L2/a"] > 0 and previous[2]["Drift_L2/a"] > 0
    assert drift[2]["Drift_L2/a"] != previous[2]["Drift_L2/a"]


def test_features_that_metrics_share_are_saved_once(tmp_path: Path) -> None:
    strategy = with_panel(None)
    strategy.evaluator.before_training(strategy)
    before = [metric._before["a"] for metric in strategy.evaluator.metrics[-2:]]
    path = save(strategy, tmp_path)
    with safe_open(path, framework="pt") as file:
        shapes = [tuple(file.get_tensor(name).shape) for name in file.keys()]  # noqa: SIM118
    assert shapes.count((TEST_IMAGES, 8)) == 1 and before[0] is before[1]


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (lambda panel: DriftMetric(panel, ("l2",), "previous"), "since='previous' of this Drift"),
        (lambda panel: DriftMetric(panel, ("l2", "cka")), r"measures=\('l2', 'cka'\) of this"),
        (
            lambda _: DriftMetric(Panel([PanelSet("b", Blobs(), Blobs())]), ("l2",)),
            r"sets=\('b',\) of this DriftMetric differs from sets=\('a',\) of the saved one: build",
        ),
    ],
)
def test_another_setting_or_panel_is_refused(other: Any, words: str) -> None:
    panel = Panel([PanelSet("a", Blobs(), Blobs())])
    state = DriftMetric(panel, ("l2",)).state_dict()
    with pytest.raises(ValueError, match=words):
        other(panel).load_state_dict(state)
    for one, two in (
        (LinearProbeMetric(panel, (1e-3,)), LinearProbeMetric(panel)),
        (KNNMetric(panel, 3), KNNMetric(panel)),
    ):
        with pytest.raises(ValueError, match=r"(grid=.*|num_neighbors=3) of the saved one"):
            two.load_state_dict(one.state_dict())


def test_owners_of_a_shared_tensor_get_tensors_of_their_own() -> None:
    rows, tensors = torch.arange(6.0).view(2, 3), dict[str, torch.Tensor]()
    state = {"one": rows, "two": [rows, rows[:1], rows.T.contiguous(), rows.view(torch.int32)]}
    document = encode(state, tensors)
    assert len(tensors) == 4
    found = decode(document, {path: tensor.clone() for path, tensor in tensors.items()})
    found["one"].zero_()
    assert found["two"][0].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert found["two"][1].tolist() == [[0, 1, 2]]
