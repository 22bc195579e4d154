"""``train.optimizer``, ``betas`` and ``momentum``: steps against the formulas, and a run."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from benchmarks.config import Config, read
from benchmarks.experiment import run as run_module
from benchmarks.experiment.run import run
from benchmarks.experiment.training import StepTimer
from benchmarks.models.build import build_optimizer
from tests.benchmarks.miniature import config

RATE, DECAY, EPS = 0.1, 0.2, 1e-8
SLOPES = (0.5, -1.0, 0.25)
"""Gradients of three steps; the weight starts at 1."""


def sgd(slopes: Sequence[float], momentum: float) -> float:
    weight, mean = 1.0, 0.0
    for slope in slopes:
        mean = momentum * mean + slope + DECAY * weight
        weight -= RATE * mean
    return weight


def adam(slopes: Sequence[float], betas: tuple[float, float], decoupled: bool) -> float:
    weight, first, second = 1.0, 0.0, 0.0
    for step, slope in enumerate(slopes, 1):
        if decoupled:
            weight -= RATE * DECAY * weight
        else:
            slope = slope + DECAY * weight
        first = betas[0] * first + (1 - betas[0]) * slope
        second = betas[1] * second + (1 - betas[1]) * slope**2
        across = math.sqrt(second / (1 - betas[1] ** step)) + EPS
        weight -= RATE * first / (1 - betas[0] ** step) / across
    return weight


def trained(**train: Any) -> float:
    """The weight of a tower after the three steps, in float64."""
    tower = nn.Linear(1, 1, bias=False, dtype=torch.float64)
    nn.init.ones_(tower.weight)
    model = nn.Sequential(OrderedDict(tower=tower, head=nn.Linear(1, 1, dtype=torch.float64)))
    made = read({"train": {"lr": RATE, "weight_decay": DECAY, **train}})
    optimizer = build_optimizer(made, model)
    for slope in SLOPES:
        tower.weight.grad = torch.full((1, 1), slope, dtype=torch.float64)
        optimizer.step()
    return tower.weight.item()


@pytest.mark.parametrize(
    ("train", "expected"),
    [
        ({}, lambda: adam(SLOPES, (0.9, 0.999), True)),
        ({"optimizer": "adamw", "betas": [0.8, 0.98]}, lambda: adam(SLOPES, (0.8, 0.98), True)),
        ({"optimizer": "adam"}, lambda: adam(SLOPES, (0.9, 0.999), False)),
        ({"optimizer": "adam", "betas": [0.8, 0.98]}, lambda: adam(SLOPES, (0.8, 0.98), False)),
        ({"optimizer": "sgd"}, lambda: sgd(SLOPES, 0.0)),
        ({"optimizer": "sgd", "momentum": 0.9}, lambda: sgd(SLOPES, 0.9)),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "formula",
)
def test_steps_follow_the_formulas(train: dict[str, Any], expected: Callable[[], float]) -> None:
    assert trained(**train) == pytest.approx(expected(), rel=1e-12)


def test_the_formulas_differ() -> None:
    values = [adam(SLOPES, (0.9, 0.999), True), adam(SLOPES, (0.9, 0.999), False)]
    values += [sgd(SLOPES, 0.0), sgd(SLOPES, 0.9)]
    assert len({round(value, 3) for value in values}) == 4


def test_rates_of_tower_and_head_belong_to_every_optimizer() -> None:
    for optimizer in ("adamw", "adam", "sgd"):
        made = read({"train": {"lr": 1e-5, "head_lr": 1e-3, "optimizer": optimizer}})
        model = nn.Sequential(OrderedDict(tower=nn.Linear(2, 2), head=nn.Linear(2, 2)))
        groups = build_optimizer(made, model).param_groups
        assert [(group["lr"], len(group["params"])) for group in groups] == [(1e-5, 2), (1e-3, 2)]


def small(data: Path, **train: Any) -> Config:
    return config(
        data,
        method="lp-ft",
        panel={"sets": []},
        stream={"kind": "sequence", "sets": ["folder:photo"]},
        train={"lr": 1e-3, "batch": 32, "eval_batch": 50, "batches": "shuffled", **train},
    )


def test_the_optimizer_of_the_configuration_trains(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[type, Any]] = []

    class Look(StepTimer):
        def before_update(self, strategy: Any, **kwargs: Any) -> None:
            group = strategy.optimizer.param_groups[0]
            seen.append((type(strategy.optimizer), group.get("momentum", group.get("betas"))))

    monkeypatch.setattr(run_module, "StepTimer", Look)
    losses = []
    for train in (
        {},
        {"optimizer": "adam", "betas": [0.8, 0.9]},
        {"optimizer": "sgd", "momentum": 0.5},
    ):
        record: Any = run(small(data, **train))
        (terms,) = record.outcome.loss_terms
        losses.append(terms["Loss"][0])
        assert {key: record.config["train"][key] for key in train} == train
    assert list(dict.fromkeys(seen)) == [
        (torch.optim.AdamW, (0.9, 0.999)),
        (torch.optim.Adam, (0.8, 0.9)),
        (torch.optim.SGD, 0.5),
    ]
    assert len(set(losses)) == 3
