"""Values that only look like numbers, and seeds that no random stream takes."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import pytest

from benchmarks.commands import demo, run
from benchmarks.config import find_recipe, load_recipe
from benchmarks.execution.matrix import load_matrix

NO_FLAG = "=true: give a number, not true or false"


@pytest.mark.parametrize(
    ("pair", "words"),
    [
        *((f"{key}=true", f"concepts.yaml: {key}{NO_FLAG}") for key in ("seed", "strength")),
        *((f"train.{key}=true", f"train.{key}{NO_FLAG}") for key in ("lr", "steps", "epochs")),
        ("train.clip=true", f"train.clip{NO_FLAG}"),
        ("train.betas=[true, 0.9]", f"train.betas.0{NO_FLAG}"),
        ("train.lr_factors={digits: true}", f"train.lr_factors.digits{NO_FLAG}"),
        ("panel.train=true", f"panel.train{NO_FLAG}"),
        ("stream.train_images=true", f"stream.train_images{NO_FLAG}"),
        ("companions.ldifs=true", f"companions.ldifs{NO_FLAG}"),
        ("where.checkpoint_steps=true", f"where.checkpoint_steps{NO_FLAG}"),
        (
            "train.clip=.inf",
            "train.clip=inf: give a finite number, or null (largest norm of the gradient; null: it "
            "is not clipped)",
        ),
        ("train.clip=inf", "train.clip=inf: give a finite number, or null"),  # a text in YAML
        ("train.lr=.inf", "concepts.yaml: train.lr=inf: give a finite number"),
        ("train.lr=.nan", "train.lr=nan: give a finite number"),
        ("train.weight_decay=.inf", "train.weight_decay=inf: give a finite number"),
        ("head.l2=.inf", "head.l2=inf: give a finite number, or null (penalty of the probe; null:"),
        ("backbone.mean=[0.1, .nan, 0.2]", "backbone.mean.1=nan: give a finite number, or null"),
        ("strength=.inf", "strength=inf: give a finite number"),
        ("options.num_neighbors=.inf", "options.num_neighbors=inf: give a finite number"),
        ("where.pixel_gb=.inf", "where.pixel_gb=inf: give a finite number"),
        ("seed=4294967296", "concepts.yaml: seed=4294967296: give a seed from 0 to 4294967295"),
        ("seed=-1", "concepts.yaml: seed=-1: give a seed from 0 to 4294967295"),
    ],
)
def test_what_is_no_number_of_a_run_is_refused_by_its_key(pair: str, words: str) -> None:
    parser = argparse.ArgumentParser()
    run.add_options(parser)
    given = ["--config", "concepts.yaml", "--methods", "fda", "--set", pair]
    with pytest.raises(ValueError, match=re.escape(words)) as caught:
        run.planned(parser.parse_args(given))
    assert "\n" not in str(caught.value)


def test_flags_stay_flags_and_the_last_seed_is_a_seed() -> None:
    keys = {"train.tf32": True, "panel.transport": True, "options.detach_proxies": True}
    config = load_recipe(find_recipe("concepts.yaml")).of_method("fda", keys | {"seed": 2**32 - 1})
    assert config.config.train.tf32 is True and config.config.options["detach_proxies"] is True
    assert config.config.seed == 4294967295


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("seeds: [true]", f"m.yaml: seeds.0{NO_FLAG}"),
        ("seeds: [4294967296]", "m.yaml: seeds=4294967296: give a seed from 0 to 4294967295"),
        ("strengths: {fda: [true]}", f"strengths.fda.0{NO_FLAG}"),
        ("strengths: [.inf]", "strengths.0=inf: give a finite number"),
        ("cpus: true", f"cpus{NO_FLAG}"),
        ("gpus: .nan", "gpus=nan: give a finite number"),
        ("set: {train.clip: .inf}", "set.train.clip=inf: give a finite number"),
    ],
)
def test_a_matrix_is_refused_too(tmp_path: Path, content: str, words: str) -> None:
    file = tmp_path / "m.yaml"
    file.write_text(f"streams: [concepts.yaml]\n{content}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=re.escape(words)):
        load_matrix(str(file))


def test_seeds_of_the_command_line_have_the_range_too() -> None:
    parser = argparse.ArgumentParser()
    run.add_options(parser)
    with pytest.raises(ValueError, match=r"^--seeds=4294967296: give a seed from 0 to 4294967295$"):
        run.planned(parser.parse_args(["--config", "concepts.yaml", "--seeds", "0", "4294967296"]))
    parser = argparse.ArgumentParser()
    demo.add_options(parser)
    with pytest.raises(ValueError, match=r"^the last of --seeds=4294967296: give a seed from 0 to"):
        demo.planned(parser.parse_args(["--seed", "4294967295", "--seeds", "2"]))


def test_a_grid_of_a_recipe_has_numbers(tmp_path: Path) -> None:
    file = tmp_path / "r.yaml"
    file.write_text("base: concepts.yaml\nmethods: {fda: {grid: [true]}}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"^r\.yaml: strengths=true: give numbers, or auto$"):
        load_recipe(file).of_method("fda")
