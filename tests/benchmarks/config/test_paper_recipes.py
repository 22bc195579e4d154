"""Recipes of the paper: they say what it states, and build on miniatures of their data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from avalanche_proxyfda.models import GrowingTextHead, UnitHeads
from avalanche_proxyfda.streams import imagenet_r
from avalanche_proxyfda.streams.files.datasets import load
from benchmarks.config import RECIPES, Config, load_recipe
from benchmarks.execution.fitted import fitted
from benchmarks.execution.job import Job
from benchmarks.execution.plan import checked_steps
from benchmarks.execution.recipe_jobs import recipe_jobs
from benchmarks.experiment.measure import panel_heads
from benchmarks.experiment.prepare import batch_sizes, prepare
from benchmarks.streams import panel
from benchmarks.streams.kinds import sequence
from tests.benchmarks.miniature import imagenet_wnids, write_folder

ROWS = ("finetune", "lp-ft", "frozen", "l2sp", "ldifs", "fda", "proxy-fda")
"""Rows of the paper's Table 1, and the heads alone."""
LEARNT = {
    "ldifs": ("SVHN", "CIFAR10", "folder:RESISC45"),
    "ldifs_cifar100": ("SVHN", "CIFAR100", "folder:RESISC45"),
    "ldifs_cars": ("SVHN", "StanfordCars", "folder:RESISC45"),
}
"""Table 3 of the paper."""
EPOCHS = {"SVHN": 10, "CIFAR10": 10, "CIFAR100": 10, "StanfordCars": 35, "folder:RESISC45": 15}
"""LDIFS's epochs (arXiv 2308.13320)."""
OTHERS = {"CIFAR10", "CIFAR100", "DTD", "EuroSAT", "GTSRB", "MNIST", "folder:ImageNet"}
TEN = {"SVHN", "StanfordCars", "folder:RESISC45", *OTHERS}


def of_method(recipe: str, method: str) -> Config:
    return load_recipe(RECIPES / f"{recipe}.yaml").of_method(method).config


def test_split_imagenet_r_is_the_papers() -> None:
    """Table 10: 10 x 20, 50 epochs, Adam (0.9, 0.999), 1e-4, cosine; batches of 16 x 4."""
    assert load_recipe(RECIPES / "imagenet_r.yaml").compare == ROWS
    for method in ROWS:
        made = of_method("imagenet_r", method)
        stream: Any = made.stream
        train = made.train
        assert (stream.num_experiences, stream.split, stream.validation_share) == (10, "coda", 0)
        assert stream.lists == ("imagenet-r_train.yaml", "imagenet-r_test.yaml")
        assert (train.epochs, train.optimizer, train.betas) == (50, "adam", (0.9, 0.999))
        assert (train.lr, train.head_lr, train.warm_up) == (1e-4, None, 0)
        assert (train.batch, train.batches) == (64, "balanced")
        assert (train.classes_per_batch, train.samples_per_class) == (16, 4)


@pytest.mark.parametrize("recipe", LEARNT)
def test_the_sequences_are_the_papers(recipe: str) -> None:
    assert load_recipe(RECIPES / f"{recipe}.yaml").compare == ROWS
    for method in ROWS:
        made = of_method(recipe, method)
        stream: Any = made.stream
        assert stream.sets == LEARNT[recipe]
        assert made.train.epochs == tuple(EPOCHS[name] for name in stream.sets)
        assert {*stream.sets, *made.panel.sets} == TEN  # none of them is SUN397
        assert made.backbone.name == "open_clip:ViT-B-32/openai"
        mined = method in ("fda", "proxy-fda")  # batches of 16 classes x 4 images
        batch = (64, "balanced", 16) if mined else (128, "shuffled", 16)
        train = made.train
        assert (train.batch, train.batches, train.classes_per_batch) == batch
        assert (made.train.lr, made.train.head_lr) == (1e-5, None)
        assert (made.train.optimizer, made.train.weight_decay) == ("adamw", 0.1)


# ---- on miniatures ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of images for each of the ten sets, with class names like the real ones."""
    root = tmp_path_factory.mktemp("ten")
    names = {"SVHN": [str(k) for k in range(10)], "GTSRB": [str(k) for k in range(11)]}
    names["ImageNet"] = imagenet_wnids(3)
    for seed, name in enumerate(sorted(TEN)):
        short = name.partition(":")[2] or name
        classes = names.get(short, ["tennis_court", "sea_ice", "apple"])
        write_folder(root / short, classes, (32, 32), "RGB", seed, 6)
    return root


def dry(
    recipe: str, data: Path, changes: dict[str, Any], methods: Sequence[str] = ROWS
) -> tuple[list[Job], dict[str, Any]]:
    """Jobs and summary of ``run --dry-run``, by default of the methods that a recipe compares."""
    made = load_recipe(RECIPES / f"{recipe}.yaml")
    overrides = {"where.data": str(data), "where.device": "cpu", "train.workers": 0, **changes}
    jobs = recipe_jobs(made, data, methods, (None,), "recipe", overrides)
    return checked_steps(fitted(jobs))


@pytest.mark.parametrize("recipe", LEARNT)
def test_the_sequences_build(recipe: str, sets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def instead(name: str, root: Path, options: Any) -> Any:
        data = load(f"folder:{name.partition(':')[2] or name}", root)
        return replace(data, name=name), {}

    for module in (sequence, panel):
        monkeypatch.setattr(module, "load_set", instead)
    jobs, summary = dry(recipe, sets, {"backbone.name": "tiny-clip"})
    assert [job.config.method for job in jobs] == list(ROWS)
    images = [entry["train"] for entry in summary["sets"]]
    plain = prepare(jobs[0].config)
    for job in jobs:
        sizes = batch_sizes(job.config, plain.stream)
        if job.config.method in ("fda", "proxy-fda"):
            assert all(56 <= size <= 64 for size in sizes)  # up to 16 classes in equal parts
        else:
            assert sizes == [128] * 3
        parts = zip(LEARNT[recipe], images, sizes, strict=True)
        assert job.steps == sum(EPOCHS[n] * math.ceil(k / size) for n, k, size in parts)
    assert isinstance(plain.model.head, UnitHeads)  # which build_model started from texts
    heads, wordless = panel_heads(jobs[0].config, plain.backbone, plain.panel)
    assert set(wordless) == {"GTSRB"} and "ImageNet" in (heads or {})


@pytest.fixture
def lists(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """CODA-Prompt's lists for the miniature of ImageNet-R, beside a link to its images."""

    def write(name: str, chosen: slice) -> None:
        files: list[str] = []
        targets: list[int] = []
        for number, folder in enumerate(sorted((data / "imagenet-r").iterdir())):
            images: Sequence[Path] = sorted(folder.iterdir())[chosen]
            files += [f"data/imagenet-r/{folder.name}/{image.name}" for image in images]
            targets += [number] * len(images)
        (tmp_path / name).write_text(
            yaml.safe_dump({"data": files, "targets": targets}), encoding="utf-8"
        )

    write("imagenet-r_train.yaml", slice(1, None))
    write("imagenet-r_test.yaml", slice(1))
    (tmp_path / "imagenet-r").symlink_to(data / "imagenet-r")
    monkeypatch.setattr(imagenet_r, "CODA_COUNTS", (600, 200))
    return tmp_path


SMALL = {"backbone.name": "tiny-clip", "stream.root": "imagenet-r"}


@pytest.mark.filterwarnings("ignore:.* ImageNet-R has 30000")
def test_split_imagenet_r_builds_from_codas_lists(lists: Path) -> None:
    jobs, summary = dry("imagenet_r", lists, SMALL)
    assert (summary["split"], summary["order"]) == ("coda", "coda-0")
    assert summary["class_order"] == list(range(200))
    assert (summary["train"], summary["validation"], summary["test"]) == (600, 0, 200)
    assert {job.steps for job in jobs} == {50 * 10}  # 60 images an experience
    plain = prepare(jobs[0].config)
    assert isinstance(plain.model.head, GrowingTextHead)
    assert batch_sizes(jobs[0].config, plain.stream) == [64] * 10


def test_absent_lists_are_named_with_their_source_and_place(data: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        dry("imagenet_r", data, SMALL)
    words = str(caught.value)
    for part in ("imagenet-r_train.yaml", "imagenet-r_test.yaml", "CODA-Prompt", f"into {data}"):
        assert part in words


def test_a_backbone_without_texts_is_told_so(data: Path) -> None:
    blind = {
        "backbone.name": "timm:mobilenetv2_035",
        "backbone.weights": "random",
        "backbone.image_size": 32,
        "stream.root": "imagenet-r",
        "stream.split": "hash80",
        "stream.order": "identity",
    }
    with pytest.raises(ValueError, match=r"head.kind='text-start': .* has no text tower"):
        dry("imagenet_r", data, blind)
    assert len(dry("imagenet_r", data, blind, ROWS[1:])[0]) == len(ROWS) - 1
    (job,), _ = dry("imagenet_r", data, {**blind, "head.kind": "random"}, ["finetune"])
    assert job.config.head.kind == "random"
