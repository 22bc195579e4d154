"""Online streams: the parts of an experience are one experience, also if all have one size."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from avalanche.benchmarks.scenarios.online import split_online_stream
from avalanche.training import Naive
from avalanche.training.plugins import EvaluationPlugin
from torch import nn

from avalanche_proxyfda import AveragingPlugin, LwFPlugin, MagMaxPlugin, WiSEFTPlugin
from avalanche_proxyfda._online import is_last_part
from avalanche_proxyfda.metrics import DriftMetric, LinearProbeMetric, Panel, PanelSet
from tests.checkpoint.training import BreakOff, BrokenOffError, alike, build, train
from tests.plugins.toys import Blobs, Plain, classic, strategy

EQUAL, UNEQUAL = 20, 25
"""Images of a part: three equal parts of an experience of 60 images; 25, 25 and 10."""
SIZES = pytest.mark.parametrize("size", [EQUAL, UNEQUAL])


def parts(size: int, boundaries: bool = True) -> list[Any]:
    stream = classic(2).train_stream
    split = split_online_stream(stream, size, access_task_boundaries=boundaries)
    found = list(split)
    assert [len(part.dataset) for part in found[:3]] == [size, size, 60 - 2 * size]
    return found


def state(model: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@SIZES
@pytest.mark.parametrize("boundaries", [True, False])
@pytest.mark.parametrize("kind", [WiSEFTPlugin, MagMaxPlugin, AveragingPlugin])
def test_weights_are_merged_at_the_end_of_an_experience(
    kind: Any, size: int, boundaries: bool
) -> None:
    class Noted(kind):  # type: ignore[misc]
        """Notes after which parts it writes other weights to the model."""

        def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
            before = state(strategy.model)
            super().after_training_exp(strategy, **kwargs)
            if not torch.equal(before, state(strategy.model)):
                merged.append(strategy.clock.train_exp_counter)

    merged: list[int] = []
    trained = strategy(Plain(), Noted(0.5), train_mb_size=10)
    for part in parts(size, boundaries):
        trained.train(part, eval_streams=[])
    assert merged == [2, 5]


def test_parts_are_not_counted_without_the_first_one() -> None:
    """A plugin that joins a training of many experiences inside one has not seen its first part."""
    part = SimpleNamespace(is_last_subexp=False, sub_stream_length=3)
    place = SimpleNamespace(experience=part, clock=SimpleNamespace(train_exp_counter=7))
    ends: Any = [is_last_part(place, first) for first in (-1, 7, 6, 5)]
    assert ends == [False, False, False, True]


@SIZES
def test_classes_become_old_at_the_end_of_an_experience(size: int) -> None:
    own, active = LwFPlugin(1.0), []
    trained = strategy(Plain(), own, train_mb_size=10)
    for part in parts(size):
        trained.train(part, eval_streams=[])
        active.append(len(own._seen))
    assert active == [0, 0, 3, 3, 3, 6]


@SIZES
def test_a_panel_is_measured_at_the_end_of_an_experience(size: int) -> None:
    data = Blobs(30, seed=3)
    panel = Panel([PanelSet("blobs", data, data)], feature_module="backbone")
    metrics = [DriftMetric(panel, ("l2",), since="previous"), LinearProbeMetric(panel)]
    model = Plain()
    trained = Naive(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.05),
        train_mb_size=10,
        evaluator=EvaluationPlugin(*metrics, loggers=[]),
    )
    for part in parts(size):
        trained.train(part, eval_streams=[])
    assert [len(metric.history) for metric in metrics] == [3, 3]
    assert panel.passes == 3


@SIZES
@pytest.mark.parametrize("kind", [WiSEFTPlugin, LwFPlugin])
@pytest.mark.parametrize("step", [3, 4, 9])
def test_a_training_in_parts_that_was_broken_off_ends_the_same(
    kind: Any, size: int, step: int, tmp_path: Path
) -> None:
    def stream() -> Any:
        return SimpleNamespace(train_stream=parts(size), test_stream=classic(2).test_stream)

    def made(step: int | None) -> Any:
        return build(Plain, kind(0.5), BreakOff(step), train_mb_size=10, train_epochs=1)

    torch.manual_seed(3)  # the parts draw their seeds from it
    whole = train(made(None), classic_parts := stream(), tmp_path / "whole", every=None)
    with pytest.raises(BrokenOffError):
        train(made(step), classic_parts, tmp_path / "part", every=1)
    again = train(made(None), classic_parts, tmp_path / "part", every=1)
    assert alike(whole, again)
