"""Runs on miniatures of the real streams: heads, matrices, records, steps."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from avalanche.models import IncrementalClassifier
from open_clip import IMAGENET_CLASSNAMES, build_zero_shot_classifier
from torch import nn

from avalanche_proxyfda.models import TEMPLATES
from benchmarks import engine, tiny_clip
from benchmarks.backbones import build_backbone, build_views
from benchmarks.config import Config, read
from benchmarks.engine import run, state_hash
from benchmarks.finetune import KeptInEval, StepTimer, WarmUpCosine
from benchmarks.model import build_model, build_optimizer
from benchmarks.prepare import planned_steps, prepare
from benchmarks.provenance import code
from benchmarks.streams.build import load_panel, load_stream, thinned
from benchmarks.streams.imagenet_r_splits import hash80
from tests.benchmarks.miniature import imagenet_wnids, write_folder, write_imagenet_r

pytestmark = pytest.mark.filterwarnings("ignore:.* ImageNet-R has 30000")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    pytest.importorskip("timm")
    write_imagenet_r(root / "imagenet-r", imagenet_wnids())
    write_folder(root / "stripes", ["one", "two", "three"], (50, 40), "RGB", 0)
    write_folder(root / "grey", ["a", "b"], (20, 33), "L", 1)
    for seed, name in enumerate(("photo", "sketch")):
        write_folder(root / name, ["dog", "cat", "owl"], (32, 32), "RGB", seed, 24)
    return root


def config(data: Path, **changes: Any) -> Config:
    content: dict[str, Any] = {
        "train": {"lr": 1e-4, "batch": 32, "eval_batch": 50},
        "panel": {"sets": ["colours"], "train": 60, "test": 40},
        "head": {"kind": "probe", "l2": 1e-3},
        "where": {"data": str(data), "device": "cpu"},
        **changes,
    }
    return read(content)


def imagenet_r(data: Path, experiences: int = 5, **changes: Any) -> Config:
    stream = {"kind": "imagenet-r", "num_experiences": experiences, "validation_share": 0.34}
    return config(data, stream=stream, **changes)


def views_of(made: Config) -> Any:
    return build_views(made, build_backbone(made))


def test_zero_shot_on_imagenet_r_is_open_clips_own_recipe_and_the_record_is_whole(
    data: Path,
) -> None:
    made = imagenet_r(data, method="fda", strength=1.0, head={"kind": "zero-shot"},
                      options={"num_neighbors": 8})  # fmt: skip
    record = run(made)
    matrix = record["test"]["accuracy_matrix"]
    assert len(matrix) == 6 and all(len(row) == 5 and None not in row for row in matrix)
    # by hand: classes in the order of their ids, labels from the files, no stream at all
    lists = hash80(data / "imagenet-r")
    names = [IMAGENET_CLASSNAMES[k] for k in range(200)]  # the ids are sorted in ImageNet too
    clip = tiny_clip.load()
    with torch.no_grad():
        texts = build_zero_shot_classifier(clip, tiny_clip.tokenize, names, TEMPLATES)
        view = views_of(made).evaluation
        from benchmarks.streams.images import load_rgb

        images = torch.stack([view(load_rgb(path)) for path, _ in lists.test])
        guesses = (clip.encode_image(images, normalize=True) @ texts).argmax(dim=1)
    hits = sum(int(g) == label for g, (_, label) in zip(guesses, lists.test, strict=True))
    counts = record["stream"]["test_counts"]
    own = sum(a * n for a, n in zip(matrix[0], counts, strict=True))
    assert own == pytest.approx(hits, abs=1e-9) and counts == [40] * 5
    test, stream = record["test"], record["stream"]
    assert test["weighted_by"] == "image"
    assert test["stream_accuracy"] == pytest.approx(sum(matrix[-1]) / 5)
    stages = [sum(row[: k + 1]) / (k + 1) for k, row in enumerate(matrix[1:])]
    assert test["average_accuracy"] == pytest.approx(sum(stages) / 5)
    expected = sum(matrix[k + 1][k] - matrix[-1][k] for k in range(4)) / 4
    assert test["forgetting_avalanche"] == pytest.approx(expected, abs=1e-6)
    assert test["forgetting_best"] >= test["forgetting_avalanche"] - 1e-6
    assert stream["split_sha256"] == lists.sha256 and len(stream["class_order"]) == 200
    assert stream["class_order"][:8] == [168, 136, 51, 9, 183, 101, 171, 99]
    assert (stream["train"], stream["validation"], stream["test"]) == (400, 200, 200)
    assert 0 <= record["validation"]["stream_accuracy"] <= 1
    (panel,) = record["panel"].values()
    assert [panel[s] for s in ("train", "validation", "test")] == [60, 40, 40]
    assert len(panel["sha256"]) == 64 == len(record["initial_tower_sha256"])
    assert record["stream"]["validation_counts"] == [40] * 5 and "timm" in record["versions"]
    assert record["machine"]["device"] == "cpu" and record["command"]
    assert record["feature_source"] == "tower" and record["teacher_forwards"] == record["steps"]
    assert record["steps"] == planned_steps(made, load_stream(made, views_of(made)))


@pytest.mark.parametrize("head", ["zero-shot", "probe"])
def test_an_open_clip_model_with_weights_from_a_file(data: Path, tmp_path: Path, head: str) -> None:
    """A small architecture of our own among open_clip's, its own tokenizer and views."""
    import open_clip
    from safetensors.torch import save_file

    sizes = {"width": 16, "layers": 1}
    architecture = {
        "embed_dim": 12,
        "vision_cfg": {"image_size": 32, "patch_size": 8, "head_width": 8, **sizes},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "heads": 2, **sizes},
    }
    (tmp_path / "tiny-for-runs.json").write_text(json.dumps(architecture))
    open_clip.add_model_config(tmp_path / "tiny-for-runs.json")
    torch.manual_seed(3)
    weights = open_clip.create_model("tiny-for-runs")
    save_file(weights.state_dict(), tmp_path / "clip.safetensors")
    made = imagenet_r(
        data, 2, method="ldifs", strength=1.0, head={"kind": head, "l2": 1e-3},
        backbone={"name": "open_clip:tiny-for-runs", "weights": str(tmp_path / "clip.safetensors")},
        panel={"sets": ["folder:photo"]}, train={"lr": 1e-4, "batch": 64, "augment": "flip-crop"},
    )  # fmt: skip
    record = run(made)
    assert record["initial_tower_sha256"] == state_hash(weights.visual)
    assert (None in record["test"]["accuracy_matrix"][0]) is (head == "probe")
    assert (
        record["teacher_forwards"] == record["steps"]
        and "LDIFS_distance_Epoch" in (record["loss_terms"][0])
    )


def test_a_growing_head_is_grown_by_training_alone(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    widths: list[tuple[int, int]] = []

    class Look(StepTimer):
        def after_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
            super().after_training_iteration(strategy, **kwargs)
            head = strategy.model.head
            assert isinstance(head, IncrementalClassifier)
            known = {id(p) for g in strategy.optimizer.param_groups for p in g["params"]}
            assert {id(p) for p in head.parameters()} <= known  # what is trained is what is used
            widths.append((strategy.clock.train_exp_counter, head.classifier.out_features))

    monkeypatch.setattr(engine, "StepTimer", Look)
    record = run(imagenet_r(data, method="finetune"))
    assert sorted(set(widths)) == [(k, 40 * (k + 1)) for k in range(5)]
    matrix = record["test"]["accuracy_matrix"]
    assert matrix[0] == [None] * 5 and matrix[2][2:] == [None] * 3
    assert None not in matrix[5] and record["stream"]["names"][0] == "classes 0"
    assert record["feature_source"] is None and record["teacher_forwards"] == 0


def test_sets_of_other_sizes_and_channels_keep_their_labels_apart(data: Path) -> None:
    made = config(
        data, method="ldifs", strength=10.0, seed=1,
        stream={"kind": "sequence", "sets": ["folder:stripes", "folder:grey"]},
        panel={"sets": ["folder:photo"], "each_experience": True},
    )  # fmt: skip
    record = run(made)
    first, last = record["test"]["panel_after_each"]
    assert last == record["test"]["panel_after"] and list(first) == ["photo"]
    drift = record["drift"]["photo"]
    assert 0 < drift["l2"] < 2 and 0 < drift["cka"] < 1 and 0 < drift["neighbors"] <= 1
    matrix = record["test"]["accuracy_matrix"]
    assert matrix[1][1] is None and matrix[2][0] > 0.6 and matrix[2][1] > 0.6
    assert record["test"]["weighted_by"] == "experience"
    assert record["stream"]["names"] == ["stripes", "grey"]
    assert [s["classes"] for s in record["stream"]["sets"]] == [3, 2]
    assert list(record["test"]["panel_before"]) == ["photo"]
    assert len(record["stream"]["split_sha256"]) == 64


def test_domains_share_a_head_that_is_probed_once(data: Path) -> None:
    made = config(
        data, method="lp-ft", train={"lr": 0, "head_lr": 1e-9, "batch": 24},
        stream={"kind": "sequence", "sets": ["folder:photo", "folder:sketch"],
                "shared_labels": True},
    )  # fmt: skip
    record = run(made)
    matrix = record["test"]["accuracy_matrix"]
    assert None not in matrix[0] + matrix[1]  # the head has every class from the start
    assert matrix[1] == matrix[2] != matrix[0]  # frozen tower: the second domain refits nothing
    assert record["test"]["delta_lp"] == 0 and record["test"]["forgetting_avalanche"] == 0


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
        "method": "fda", "strength": 1.0, "options": {"num_neighbors": 16},
        "stream": {"kind": "sequence", "sets": ["folder:photo"]}, **changes,
    }  # fmt: skip
    if "where" in changes:
        content["where"] = {"data": str(data), **changes["where"]}
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        prepare(config(data, **content))


def test_one_class_an_experience_needs_shuffled_batches(data: Path) -> None:
    with pytest.raises(ValueError, match=r"has one class.*set train\.batches=shuffled"):
        prepare(imagenet_r(data, 200))
    shuffled = imagenet_r(data, 200, train={"batches": "shuffled", "batch": 64})
    assert planned_steps(shuffled, prepare(shuffled).stream) == 200


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


def test_a_panel_too_small_for_a_measure_of_drift_costs_no_record(data: Path) -> None:
    few = {"sets": ["shapes"], "test": 8}
    sets = {"kind": "sequence", "sets": ["folder:photo"]}
    record = run(config(data, stream=sets, panel=few))
    drift = record["drift"]["shapes"]
    assert drift["neighbors"] is None and drift["l2"] > 0


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


def test_the_code_that_made_a_record_is_named(tmp_path: Path) -> None:
    def git(*words: str) -> str:
        who = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        done = subprocess.run(["git", "-C", str(tmp_path), *who, *words], capture_output=True,
                              text=True, check=True)  # fmt: skip
        return done.stdout.strip()

    assert code(tmp_path / "nowhere") == {"commit": None, "changed": None}
    git("init")
    (tmp_path / "file").write_text("a")
    git("add", "file")
    git("commit", "-m", "a")
    assert code(tmp_path) == {"commit": git("rev-parse", "HEAD"), "changed": False}
    (tmp_path / "file").write_text("b")
    code.cache_clear()
    assert code(tmp_path)["changed"] is True


def test_words_for_classes(data: Path) -> None:
    from dataclasses import replace

    from benchmarks.streams.build import class_names

    made = config(data, stream={"kind": "sequence", "sets": ["folder:photo"]})
    stream = load_stream(made, views_of(made))
    named = replace(stream, classes=(("apple_pie", "soup"),))
    assert class_names(named) == (("apple pie", "soup"),)
    digits = replace(stream, classes=(tuple(map(str, range(10))),))
    assert class_names(digits)[0][3] == "3"
    with pytest.raises(ValueError, match="the 43 classes have numbers for names"):
        class_names(replace(stream, classes=(tuple(map(str, range(43))),)))


def test_zero_shot_needs_texts_and_words(data: Path, tmp_path: Path) -> None:
    timm = {"name": "timm:mobilenetv2_035", "weights": "random", "image_size": 32}
    sets = {"kind": "sequence", "sets": ["folder:photo"]}
    blind = config(data, backbone=timm, head={"kind": "zero-shot"}, stream=sets,
                   panel={"sets": []})  # fmt: skip
    with pytest.raises(ValueError, match="mobilenetv2_035 has no text tower"):
        run(blind)
    wnids = [f"n{k:08d}" for k in range(200)]
    write_imagenet_r(tmp_path / "imagenet-r", wnids, 4)
    strange = config(tmp_path, stream={"kind": "imagenet-r"}, head={"kind": "zero-shot"})
    with pytest.raises(ValueError, match=r"200 classes are not ImageNet's \(n00000168"):
        run(strange)
