"""LP-FT: batch norms of a frozen encoder, and heads that the probe does not fit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from avalanche.training.plugins import SupervisedPlugin
from torch import Tensor, nn

from avalanche_proxyfda import LPFTPlugin
from tests.plugins.test_lp_ft import warm
from tests.plugins.toys import Plain, classic, learn, strategy


def test_a_frozen_encoder_keeps_its_running_statistics() -> None:
    states: list[dict[str, Tensor]] = []
    modes: list[bool] = []

    class Look(SupervisedPlugin[Any]):
        def after_forward(self, strategy: Any, **kwargs: Any) -> None:
            modes.append(strategy.model.backbone[2].training)

        def after_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
            states.append({n: v.clone() for n, v in strategy.model.state_dict().items()})
            assert strategy.model.backbone[2].training

    own, model = LPFTPlugin(freeze_share=0.5, freeze="encoder"), warm(Plain())
    given = {n: v.clone() for n, v in model.state_dict().items() if n.startswith("backbone")}
    run = strategy(model, own, Look(), train_epochs=2)
    run.train(classic(1).train_stream[0], eval_streams=[])
    half = len(states) // 2
    assert modes == [False] * half + [True] * half and half > 1
    for name, value in given.items():
        assert torch.equal(states[half - 1][name], value), name
    assert not torch.equal(states[-1]["backbone.2.running_mean"], given["backbone.2.running_mean"])


def test_a_class_beyond_the_head_is_named() -> None:
    model = Plain()
    model.classifier = nn.Linear(8, 2)
    with pytest.raises(ValueError, match=r"class \d of task 0 has no unit: the head has 2 units"):
        learn(strategy(model, LPFTPlugin()), classic(1))


def test_a_model_without_a_linear_head_is_told_to_leave_the_method_out() -> None:
    class Cosine(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(12, 8))

        def forward(self, x: Tensor) -> Tensor:
            return x @ self.weight.T

    model = Plain()
    model.classifier = Cosine()
    with pytest.raises(ValueError, match=r"has no torch\.nn\.Linear behind its embedding"):
        learn(strategy(model, LPFTPlugin(feature_module="backbone")), classic(1))
