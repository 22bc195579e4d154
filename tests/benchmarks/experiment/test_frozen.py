"""The method ``frozen``: heads learn, the tower keeps every bit, and no teacher is asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from benchmarks.config import Config, read
from benchmarks.experiment import run as run_module
from benchmarks.experiment.record import state_hash
from benchmarks.experiment.run import run
from benchmarks.experiment.training import StepTimer
from benchmarks.methods.plugins import plugins_of
from benchmarks.models.build import build_optimizer
from benchmarks.perf.arms import Bench, arm_of
from benchmarks.perf.options import Setting
from benchmarks.results import scores
from tests.benchmarks.miniature import config, imagenet_r
from tests.benchmarks.records import recipe

pytestmark = pytest.mark.filterwarnings("ignore:.* ImageNet-R has 30000")
MOBILENET = {"name": "timm:mobilenetv2_035", "weights": "random", "image_size": 32}


class Watch(StepTimer):
    """Notes the hash of the tower, the weights of the head and the rates at every step."""

    towers: set[str]
    heads: list[torch.Tensor]
    rates: list[list[float]]

    def after_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        super().after_training_iteration(strategy, **kwargs)
        model = strategy.model
        self.towers.add(state_hash(model.tower))
        self.heads.append(torch.cat([p.detach().flatten() for p in model.head.parameters()]))
        self.rates.append([group["lr"] for group in strategy.optimizer.param_groups])
        assert not any(module.training for module in model.tower.modules())
        assert all(p.grad is None for p in model.tower.parameters())


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> type[Watch]:
    Watch.towers, Watch.heads, Watch.rates = set(), [], []
    monkeypatch.setattr(run_module, "StepTimer", Watch)
    return Watch


def test_nothing_is_forgotten_and_the_heads_learn(watch: type[Watch]) -> None:
    sets = ["digits", "textures"]
    made = recipe("frozen", stream__sets=sets, panel__sets=["colours"], train__epochs=1)
    assert made.train.lr == 3e-4 and made.head.kind == "probe" and plugins_of(made) == []
    record: Any = run(made)
    assert watch.towers == {record.initial_tower_sha256}
    assert len(watch.heads) == record.cost.steps and len(watch.rates[0]) == 1
    assert max(max(rates) for rates in watch.rates) == pytest.approx(3e-4, rel=0.05)
    for step in (0, record.cost.steps // 2):  # heads of both experiences
        assert not torch.equal(watch.heads[step], watch.heads[step + 1])
    assert scores.delta_lp(record) == 0 and scores.delta_zs(record) == 0
    assert scores.forgetting_first(record) == 0  # a head each, and the same features
    assert scores.last(record) > 0.5
    drift = record.outcome.panel[-1].drift["colours"]
    assert drift["l2"] == 0 and drift["neighbors"] == 1
    assert drift["cka"] == pytest.approx(1, abs=1e-12)
    cost = record.cost
    assert cost.teacher_forwards == 0 and cost.student_forwards == cost.steps
    assert cost.parameters_trained == watch.heads[0].numel() < cost.parameters_stored / 10


def test_batch_norm_and_dropout_of_the_tower_stay_still(data: Path, watch: type[Watch]) -> None:
    made = config(
        data,
        method="frozen",
        backbone={**MOBILENET, "options": {"drop_rate": 0.5}},
        stream={"kind": "sequence", "sets": ["folder:photo"]},
        panel={"sets": []},
        train={"lr": 1e-2, "batch": 32, "eval_batch": 50, "epochs": 2, "batch_norm": "update"},
    )
    record: Any = run(made)
    assert watch.towers == {record.initial_tower_sha256} and record.cost.steps > 2
    assert not torch.equal(watch.heads[0], watch.heads[-1])


def test_a_growing_head_learns_at_its_own_rate(data: Path, watch: type[Watch]) -> None:
    made = imagenet_r(
        data,
        2,
        method="frozen",
        panel={"sets": []},
        train={"lr": 1e-5, "head_lr": 1e-2, "batch": 64, "eval_batch": 50, "warm_up": 0},
    )
    record: Any = run(made)
    assert watch.towers == {record.initial_tower_sha256}
    assert watch.rates[0] == [1e-2] and len(watch.heads[0]) < len(watch.heads[-1])
    assert not torch.equal(watch.heads[-2], watch.heads[-1])


def towered(**content: Any) -> tuple[Config, Any]:
    model: Any = nn.Sequential()
    model.add_module("tower", nn.Linear(2, 2))
    model.add_module("head", nn.Linear(2, 2))
    return read({"method": "frozen", **content}), model


def test_the_rate_is_that_of_the_head_or_of_the_recipe() -> None:
    for train, rate in (({"lr": 3e-4}, 3e-4), ({"lr": 3e-4, "head_lr": 1e-2}, 1e-2)):
        made, model = towered(train=train)
        (group,) = build_optimizer(made, model).param_groups
        assert group["lr"] == rate and group["params"] == list(model.head.parameters())
        assert not made.trains_tower and not model.tower.weight.requires_grad
    made, model = towered(train={"lr": 0})
    with pytest.raises(ValueError, match="say the head's rate"):
        build_optimizer(made, model)
    made, model = towered(head={"kind": "zero-shot"})
    model.head.requires_grad_(False)
    with pytest.raises(ValueError, match="a frozen tower and a zero-shot head: nothing is left"):
        build_optimizer(made, model)


def test_no_override_of_the_rate_thaws_the_tower() -> None:
    assert not recipe("frozen", train__lr=1e-2).trains_tower
    assert recipe("lp-ft").trains_tower and not recipe("lp-ft", train__lr=0).trains_tower
    with pytest.raises(ValueError, match="frozen has no plugin, and so none"):
        plugins_of(read({"method": "frozen", "options": {"weight": 1}}))


def test_the_bench_of_step_times_freezes_the_tower_too() -> None:
    bench = Bench(Setting(model="tiny-clip", batch=32))
    strategy = bench.strategy(arm_of("frozen"))
    assert not any(p.requires_grad for p in strategy.model.tower.parameters())
    strategy.train(bench.experience, eval_streams=[])
    assert state_hash(strategy.model.tower) == state_hash(bench.model.tower)
    assert not torch.equal(strategy.model.head.weight, bench.model.head.weight)
