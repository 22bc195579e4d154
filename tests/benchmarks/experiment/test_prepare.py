"""A run builds and checks its parts before its first step."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from benchmarks.experiment import data as data_module
from benchmarks.experiment.measure import panel_heads
from benchmarks.experiment.prepare import planned_steps, prepare
from benchmarks.experiment.record import state_hash
from benchmarks.experiment.run import run
from benchmarks.experiment.training import KeptInEval, WarmUpCosine
from benchmarks.models.backbone import build_backbone
from benchmarks.models.build import build_model, build_optimizer
from benchmarks.streams.panel import load_panel
from benchmarks.streams.registry import load_stream
from benchmarks.streams.thinning import thinned
from benchmarks.streams.words import class_names
from tests.benchmarks.miniature import config, imagenet_r, views_of, write_imagenet_r

pytestmark = pytest.mark.filterwarnings("ignore:.* ImageNet-R has 30000")


def test_a_frozen_tower_and_groups_of_rates(data: Path) -> None:
    made = imagenet_r(data, train={"lr": 0, "head_lr": 0.01})
    stream = load_stream(made, views_of(made))
    model: Any = build_model(made, build_backbone(made), stream)
    optimizer = build_optimizer(made, model)
    assert [group["lr"] for group in optimizer.param_groups] == [0.01]
    assert not any(p.requires_grad for p in model.tower.parameters())
    slow = imagenet_r(data, train={"lr": 1e-5, "head_lr": 0.01})
    model = build_model(slow, build_backbone(slow), stream)
    rates = [(g["lr"], len(g["params"])) for g in build_optimizer(slow, model).param_groups]
    assert rates == [(1e-5, len(list(model.tower.parameters()))), (0.01, 2)]
    with pytest.raises(ValueError, match=r"say the head's rate, train.head_lr="):
        build_optimizer(imagenet_r(data, train={"lr": 0}), model)
    zero = imagenet_r(data, train={"lr": 0}, head={"kind": "zero-shot"})
    model = build_model(zero, build_backbone(zero), stream)
    with pytest.raises(ValueError, match="nothing is left to be trained"):
        build_optimizer(zero, model)


def test_each_group_has_its_own_peak_in_every_experience() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    groups = [{"params": part.parameters(), "lr": lr} for part, lr in zip(model, (1.0, 10.0))]  # noqa: B905
    optimizer = torch.optim.SGD(groups)

    class Strategy:
        dataloader = range(10)
        train_epochs = 1

        class clock:  # noqa: N801
            train_exp_iterations = 0

    strategy: Any = Strategy()
    strategy.optimizer = optimizer
    plan = WarmUpCosine(warm_up=0.2)
    for _ in range(2):
        plan.before_training_exp(strategy)
        seen = []
        for step in range(10):
            strategy.clock.train_exp_iterations = step
            plan.before_training_iteration(strategy)
            seen.append([group["lr"] for group in optimizer.param_groups])
        assert max(a for a, _ in seen) == pytest.approx(0.976, abs=1e-3)
        assert all(b == pytest.approx(10 * a) for a, b in seen) and seen[-1][0] < 0.03


def test_gradients_are_clipped_unless_the_key_is_null() -> None:
    model = nn.Linear(2, 2, bias=False)
    strategy: Any = SimpleNamespace(model=model)
    for clip, largest in ((None, 10.0), (1.0, 1.0)):
        model.weight.grad = torch.full((2, 2), 5.0)
        WarmUpCosine(clip=clip).before_update(strategy)
        assert float(model.weight.grad.norm()) == pytest.approx(largest, rel=1e-4)


def test_frozen_batch_norms_keep_their_statistics() -> None:
    tower = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout())

    class Strategy:
        model = nn.Module()

    Strategy.model.tower = tower
    for all_of_it, dropping in ((False, True), (True, False)):
        Strategy.model.train()
        KeptInEval(all_of_it).before_training_epoch(Strategy())
        before = tower[1].running_mean.clone()
        tower(torch.randn(5, 3, 2, 2))
        assert torch.equal(tower[1].running_mean, before) and tower[2].training is dropping


def test_epochs_of_each_experience(data: Path) -> None:
    sets = {"kind": "sequence", "sets": ["folder:photo", "folder:sketch"], "shared_labels": True}
    one = config(data, stream=sets)
    stream = load_stream(one, views_of(one))
    single = planned_steps(one, stream)
    both = planned_steps(config(data, stream=sets, train={"epochs": [1, 3], "batch": 32}), stream)
    assert single == 2 * 3 and both == 4 * 3  # 66 images, 30 a step


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"train": {"batch": 12}}, "options.num_neighbors=16 must be below the 12 samples"),
        ({"train": {"samples_per_class": 5}}, "must be below the 15 samples of a batch of exp"),
        ({"train": {"samples_per_class": 40}}, "leaves no room for two classes in train.batch=64"),
        ({"panel": {"sets": ["shapes", "shapes"]}}, "with different names"),
        ({"panel": {"sets": ["shapes"], "train": 2}}, "raise panel.train=2"),
        ({"train": {"lr": 0}}, r"train.lr=0 freezes the tower: say the head's rate"),
        ({"panel": {"sets": ["folder:nowhere"]}}, "nowhere"),
        ({"where": {"device": "cuda:77"}}, "where.device='cuda:77' cannot be used here"),
        ({"train": {"epochs": [1, 2, 3]}}, "train.epochs has 3 entries"),
    ],
)
def test_what_will_fail_fails_before_the_first_step(
    data: Path, changes: dict[str, Any], words: str
) -> None:
    content: dict[str, Any] = {
        "method": "fda",
        "strength": 1.0,
        "options": {"num_neighbors": 16},
        "stream": {"kind": "sequence", "sets": ["folder:photo"]},
        **changes,
    }
    if "where" in changes:
        content["where"] = {"data": str(data), **changes["where"]}
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        prepare(config(data, **content))


def test_one_class_an_experience_has_shuffled_batches(data: Path) -> None:
    own = [
        imagenet_r(data, 200, train={"batches": batches, "batch": 64})
        for batches in ("balanced", "shuffled")
    ]
    stream = prepare(own[0]).stream
    assert [planned_steps(config, stream) for config in own] == [200, 200]


def test_random_weights_are_those_of_the_seed(data: Path) -> None:
    backbone = {"name": "timm:mobilenetv2_035", "weights": "random", "image_size": 32}
    sets = {"kind": "sequence", "sets": ["folder:photo"]}
    made = [
        state_hash(
            prepare(config(data, backbone=backbone, stream=sets, panel={"sets": []}, seed=s)).model
        )
        for s in (0, 0, 1)
    ]
    assert made[0] == made[1] != made[2]


def test_broken_images_of_the_panel_are_dropped_too(data: Path, tmp_path: Path) -> None:
    for name in ("photo", "sketch"):
        shutil.copytree(data / name, tmp_path / name)
    (tmp_path / "sketch/train/dog/001.png").write_bytes(b"")
    sets = {"kind": "sequence", "sets": ["folder:photo"], "on_corrupt": "drop"}
    made = config(tmp_path, stream=sets, panel={"sets": ["folder:sketch"]})
    (panel,) = load_panel(made, views_of(made))
    assert len(panel.dropped) == 1 and sum(panel.counts.values()) == 72 - 1 + 24
    whole = config(data, stream={**sets, "on_corrupt": "raise"}, panel={"sets": ["folder:sketch"]})
    (other,) = load_panel(whole, views_of(whole))
    assert other.dropped == {} and other.sha256 != panel.sha256


def test_panels_are_thinned_class_by_class(data: Path) -> None:
    assert thinned([0, 0, 0, 1, 1, 2], None) == list(range(6))
    rows = thinned([0] * 50 + [1] * 5 + [2] * 50, 20)
    labels = [0 if r < 50 else 1 if r < 55 else 2 for r in rows]
    assert len(rows) == 20 and labels.count(1) == 5 and abs(labels.count(0) - 7.5) < 1
    assert rows == sorted(set(rows)) == thinned([0] * 50 + [1] * 5 + [2] * 50, 20)
    made = config(data)
    (panel,) = load_panel(made, views_of(made))
    assert panel.counts == {"train": 60, "validation": 40, "test": 40}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"backbone": {"name": "tiny-clip", "weights": "a"}}, "tiny-clip comes as it is"),
        (
            {"backbone": {"name": "timm:mobilenetv2_035", "weights": "random"}},
            "the concepts stream holds inputs of tiny-clip",
        ),
        ({"where": {"device": "tpuu"}}, "where.device='tpuu' cannot be used here"),
    ],
)
def test_what_cannot_be_built_is_said(data: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        run(config(data, **changes))


def test_words_for_classes(data: Path) -> None:
    made = config(data, stream={"kind": "sequence", "sets": ["folder:photo"]})
    stream = load_stream(made, views_of(made))
    named = replace(stream, classes=(("apple_pie", "soup"),))
    assert class_names(named) == (("apple pie", "soup"),)
    digits = replace(stream, classes=(tuple(map(str, range(10))),))
    assert class_names(digits)[0][3] == "3"
    wnids = ("n03773504", "n04008634", "n01440764")
    assert class_names(replace(stream, classes=(wnids[:1] + wnids[2:],)))[0][0] == "missile"
    both = class_names(replace(stream, classes=(wnids,)))[0]  # one name for two classes
    assert both == ("missile", "projectile, missile", "tench")
    with pytest.raises(ValueError, match="the 43 classes have numbers for names"):
        class_names(replace(stream, classes=(tuple(map(str, range(43))),)))


def test_zero_shot_needs_texts_and_words(data: Path, tmp_path: Path) -> None:
    timm = {"name": "timm:mobilenetv2_035", "weights": "random", "image_size": 32}
    sets = {"kind": "sequence", "sets": ["folder:photo"]}
    blind = config(data, backbone=timm, head={"kind": "zero-shot"}, stream=sets, panel={"sets": []})
    with pytest.raises(ValueError, match="mobilenetv2_035 has no text tower"):
        run(blind)
    wnids = [f"n{k:08d}" for k in range(200)]
    write_imagenet_r(tmp_path / "imagenet-r", wnids, 4)
    strange = config(tmp_path, stream={"kind": "imagenet-r"}, head={"kind": "zero-shot"})
    with pytest.raises(ValueError, match=r"200 classes are not ImageNet's \(n00000168"):
        run(strange)


def test_panel_sets_without_words_have_no_zero_shot_head_and_say_why(
    data: Path, tmp_path: Path
) -> None:
    made = config(data, panel={"sets": ["colours", "shapes"]})
    ready = prepare(made)
    where = {"data": str(data), "device": "cpu", "cache_dir": str(tmp_path / "kept")}
    kept = config(data, panel={"sets": ["colours"]}, where=where)
    meta = torch.device("meta")
    with pytest.raises(NotImplementedError, match="meta"):  # so the device computes the texts
        panel_heads(kept, ready.backbone, ready.panel[:1], meta)
    panel_heads(kept, ready.backbone, ready.panel[:1])
    assert [f.suffix for f in (tmp_path / "kept").iterdir()] == [".safetensors"]
    numbered = replace(ready.panel[1], classes=tuple(str(k) for k in range(12)))
    heads, without = panel_heads(made, ready.backbone, [ready.panel[0], numbered])
    assert list(heads or {}) == ["colours"]
    assert "have numbers for names" in without["shapes"]
    twice = replace(ready.panel[1], classes=("a_b", "a b"))
    _, without = panel_heads(made, ready.backbone, [twice])
    assert "the same name" in without["shapes"]
    mute = replace(ready.backbone, clip=None)
    assert panel_heads(made, mute, ready.panel) == (None, {})


def test_runs_share_data_unless_their_heads_decide_the_labels(tmp_path: Path) -> None:
    """The words of X-TAIL's classes decide which classes of two sets are one."""

    def keys(**stream: Any) -> int:
        heads = ({"prompts": "shared"}, {"prompts": "per-set"})
        made = [config(tmp_path, stream=stream, head={"kind": "zero-shot", **h}) for h in heads]
        return len(set(map(data_module._key, made)))

    assert keys(kind="xtail", splits="coop") == 2
    assert keys(kind="mtil", splits="coop") == keys(kind="concepts") == 1
