"""Runs on miniatures of the real streams: heads, matrices, records."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from avalanche.models import IncrementalClassifier
from open_clip import IMAGENET_CLASSNAMES, build_zero_shot_classifier

from avalanche_proxyfda.models import TEMPLATES
from avalanche_proxyfda.streams.imagenet_r_splits import hash80
from benchmarks.config import read
from benchmarks.experiment import run as run_module
from benchmarks.experiment.prepare import planned_steps
from benchmarks.experiment.provenance import code
from benchmarks.experiment.record import state_hash
from benchmarks.experiment.run import run
from benchmarks.experiment.training import StepTimer
from benchmarks.models import tiny_clip
from benchmarks.reproduce.from_record import config_of
from benchmarks.reproduce.here import Here
from benchmarks.results import scores
from benchmarks.streams.registry import load_stream
from tests.benchmarks.miniature import config, imagenet_r, views_of

pytestmark = pytest.mark.filterwarnings("ignore:.* ImageNet-R has 30000")


def test_zero_shot_on_imagenet_r_is_open_clips_own_recipe_and_the_record_is_whole(
    data: Path,
) -> None:
    made = imagenet_r(
        data, method="fda", strength=1.0, head={"kind": "zero-shot"}, options={"num_neighbors": 8}
    )
    record: Any = run(made)
    matrix: Any = record.outcome.accuracy
    assert len(matrix) == 6 and all(len(row) == 5 and None not in row for row in matrix)
    # by hand: classes in the order of their ids, labels from the files, no stream at all
    lists = hash80(data / "imagenet-r")
    names = [IMAGENET_CLASSNAMES[k] for k in range(200)]  # the ids are sorted in ImageNet too
    clip = tiny_clip.load()
    with torch.no_grad():
        texts = build_zero_shot_classifier(clip, tiny_clip.tokenize, names, TEMPLATES)
        view = views_of(made).evaluation
        from avalanche_proxyfda.streams.files.images import load_rgb

        images = torch.stack([view(load_rgb(path)) for path, _ in lists.test])
        guesses = (clip.encode_image(images, normalize=True) @ texts).argmax(dim=1)
    hits = sum(int(g) == label for g, (_, label) in zip(guesses, lists.test, strict=True))
    counts = record.stream.test
    own = sum(a * n for a, n in zip(matrix[0], counts, strict=True))
    assert own == pytest.approx(hits, abs=1e-9) and counts == (40,) * 5
    stream = record.stream
    assert stream.weighted_by == "image"
    assert scores.last(record) == pytest.approx(sum(matrix[-1]) / 5)
    stages = [sum(row[: k + 1]) / (k + 1) for k, row in enumerate(matrix[1:])]
    assert scores.avg(record) == pytest.approx(sum(stages) / 5)
    expected = sum(matrix[k + 1][k] - matrix[-1][k] for k in range(4)) / 4
    assert scores.forgetting_first(record) == pytest.approx(expected, abs=1e-9)
    assert record.outcome.avalanche_forgetting == pytest.approx(expected, abs=1e-6)
    assert scores.forgetting_best(record) >= expected - 1e-6
    summary = stream.summary
    assert stream.split_sha256 == lists.sha256 and len(summary["class_order"]) == 200
    assert summary["class_order"][:8] == [168, 136, 51, 9, 183, 101, 171, 99]
    assert (summary["train"], summary["validation"], summary["test"]) == (400, 200, 200)
    assert 0 <= scores.validation_accuracy(record) <= 1
    (panel,) = record.panel.values()
    assert (panel.train, panel.validation, panel.test) == (60, 40, 40)
    assert stream.validation == (40,) * 5 and "timm" in record.how.versions
    assert record.how.machine.device == "cpu" and record.how.command
    assert record.feature_source == "tower"
    bank = 5 * 2  # one pass over 80 images in each experience, whose 40 classes exceed a batch
    assert record.cost.teacher_forwards == record.cost.steps + bank
    assert record.cost.steps == planned_steps(made, load_stream(made, views_of(made)))


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
    (tmp_path / "tiny-for-runs.json").write_text(json.dumps(architecture), encoding="utf-8")
    open_clip.add_model_config(tmp_path / "tiny-for-runs.json")
    torch.manual_seed(3)
    weights = open_clip.create_model("tiny-for-runs")
    save_file(weights.state_dict(), tmp_path / "clip.safetensors")
    made = imagenet_r(
        data,
        2,
        method="ldifs",
        strength=1.0,
        head={"kind": head, "l2": 1e-3},
        backbone={"name": "open_clip:tiny-for-runs", "weights": str(tmp_path / "clip.safetensors")},
        panel={"sets": ["folder:photo"]},
        train={"lr": 1e-4, "batch": 64, "augment": "flip-crop"},
    )
    record: Any = run(made)
    assert record.initial_tower_sha256 == state_hash(weights.visual)
    assert (None in record.outcome.accuracy[0]) is (head == "probe")
    assert record.cost.teacher_forwards == record.cost.steps
    assert "LDIFS_distance" in record.outcome.loss_terms[0]
    assert scores.delta_zs(record) is not None  # its own texts


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

    monkeypatch.setattr(run_module, "StepTimer", Look)
    record: Any = run(imagenet_r(data, method="finetune"))
    assert sorted(set(widths)) == [(k, 40 * (k + 1)) for k in range(5)]
    matrix = record.outcome.accuracy
    assert matrix[0] == (None,) * 5 and matrix[2][2:] == (None,) * 3
    assert None not in matrix[5] and record.stream.experiences[0] == "classes 0"
    assert record.feature_source is None and record.cost.teacher_forwards == 0


def test_sets_of_other_sizes_and_channels_keep_their_labels_apart(data: Path) -> None:
    made = config(
        data,
        method="ldifs",
        strength=10.0,
        seed=1,
        stream={"kind": "sequence", "sets": ["folder:stripes", "folder:grey"]},
        panel={"sets": ["folder:photo"], "each_experience": True, "transport": True},
    )
    record: Any = run(made)
    start, first, last = record.outcome.panel
    assert [m.after for m in (start, first, last)] == [0, 1, 2] and start.drift == {}
    assert list(first.linear_probe["test"]) == ["photo"]
    for moment in (first, last):
        drift = moment.drift["photo"]
        assert 0 < drift["l2"] < 2 and 0 < drift["cka"] < 1 and 0 < drift["neighbors"] <= 1
    assert "otdd-kmeans" not in first.drift["photo"]
    assert last.drift["photo"]["otdd-kmeans"] > 0 and "otdd" not in last.drift["photo"]
    matrix = record.outcome.accuracy
    assert matrix[1][1] is None and matrix[2][0] > 0.6 and matrix[2][1] > 0.6
    assert record.stream.weighted_by == "experience"
    assert record.stream.experiences == ("stripes", "grey")
    assert [s["classes"] for s in record.stream.summary["sets"]] == [3, 2]


def test_domains_share_a_head_that_is_probed_once(data: Path) -> None:
    made = config(
        data,
        method="lp-ft",
        train={"lr": 0, "head_lr": 1e-9, "batch": 24},
        stream={
            "kind": "sequence",
            "sets": ["folder:photo", "folder:sketch"],
            "shared_labels": True,
        },
    )
    record: Any = run(made)
    matrix = record.outcome.accuracy
    assert None not in matrix[0] + matrix[1]  # the head has every class from the start
    assert matrix[1] == matrix[2] != matrix[0]  # frozen tower: the second domain refits nothing
    assert scores.delta_lp(record) == 0 == record.outcome.avalanche_forgetting


def test_a_panel_too_small_for_a_measure_of_drift_costs_no_record(data: Path) -> None:
    few = {"sets": ["shapes"], "test": 8}
    sets = {"kind": "sequence", "sets": ["folder:photo"]}
    record: Any = run(config(data, stream=sets, panel=few))
    drift = record.outcome.panel[-1].drift["shapes"]
    assert drift["neighbors"] is None and drift["l2"] > 0


def test_the_code_that_made_a_record_is_named(tmp_path: Path) -> None:
    def git(*words: str) -> str:
        who = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        done = subprocess.run(
            ["git", "-C", str(tmp_path), *who, *words],
            capture_output=True,
            encoding="utf-8",
            check=True,
        )
        return done.stdout.strip()

    assert code(tmp_path / "nowhere") == {"commit": None, "changed": None}
    git("init")
    (tmp_path / "file").write_text("a", encoding="utf-8")
    git("add", "file")
    git("commit", "-m", "a")
    assert code(tmp_path) == {"commit": git("rev-parse", "HEAD"), "changed": False}
    (tmp_path / "file").write_text("b", encoding="utf-8")
    code.cache_clear()
    assert code(tmp_path)["changed"] is True


def test_the_teachers_cache_is_counted_and_is_no_part_of_the_run(data: Path) -> None:
    found = {}
    for choice in ("off", "auto"):
        where = {"data": str(data), "device": "cpu", "teacher_cache": choice}
        made = config(
            data,
            method="rkd",
            strength=1.0,
            where=where,
            stream={"kind": "sequence", "sets": ["folder:stripes", "folder:grey"]},
            train={"lr": 1e-4, "batch": 12, "epochs": 2},
            panel={"sets": []},
        )
        found[choice] = run(made)
    live, cached = (found[choice] for choice in ("off", "auto"))
    assert live.run_id == cached.run_id
    assert live.cost is not None and live.cost.cache_hits is live.cost.cache_lookups is None
    assert cached.cost is not None and cached.cost.cache_lookups == cached.cost.samples
    assert cached.cost.samples / 2 <= (cached.cost.cache_hits or 0) < cached.cost.samples
    assert cached.outcome is not None and live.outcome is not None
    for one, two in zip(live.outcome.loss_terms, cached.outcome.loss_terms, strict=True):
        assert one.keys() == two.keys()  # no hit rate among them
        assert one["RKD_relations"] == pytest.approx(two["RKD_relations"], rel=1e-4)
    old = {k: v for k, v in cached.how.config["where"].items() if k != "teacher_cache"}
    older = replace(cached, how=replace(cached.how, config={**cached.how.config, "where": old}))
    assert config_of(older, Here(data=str(data))).where == replace(
        read(live.how.config).where, data=str(data), keep_weights=True
    )
