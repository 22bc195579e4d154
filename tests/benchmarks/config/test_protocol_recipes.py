"""Recipes of published protocols have the settings of the authors' code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.config import RECIPES, Config, load_recipe
from benchmarks.config.mtil import MTIL, XTAIL

ORACLE = Path(__file__).parents[1] / "results" / "mtil_published.json"
OTHERS = {"FGVCAircraft": "Aircraft", "Flowers102": "Flowers", "Food101": "Food"}
OTHERS |= {"OxfordIIITPet": "OxfordPet"}
"""ZSCL's names of data sets."""
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
ROTATED = ("FGVCAircraft", "DTD", "EuroSAT", "Flowers102", "Food101", "OxfordIIITPet")


def made(name: str, **overrides: Any) -> Config:
    changes = {key.replace("__", "."): value for key, value in overrides.items()}
    return load_recipe(RECIPES / f"{name}.yaml").of_method("finetune", changes).config


def test_orders_are_those_of_the_published_matrices() -> None:
    published = json.loads(ORACLE.read_text(encoding="utf-8"))["orders"]
    assert set(published) == set(MTIL) == set(XTAIL)
    for name, order in published.items():
        assert [OTHERS.get(each, each) for each in MTIL[name]] == order
        rest = [each for each in order if each != "CIFAR100"]
        assert [OTHERS.get(each, each) for each in XTAIL[name]] == rest
        assert made("mtil", stream__order=name).stream.learnt == MTIL[name]  # type: ignore[union-attr]
        assert made("xtail", stream__order=name).stream.learnt == XTAIL[name]  # type: ignore[union-attr]


def test_mtil_trains_as_the_code_of_zscl() -> None:
    config = made("mtil")
    train, stream = config.train, config.stream
    assert (train.lr, train.lr_factors) == (1e-5, {"FGVCAircraft": 5, "MNIST": 5})
    assert (train.optimizer, train.betas, train.weight_decay) == ("adamw", (0.9, 0.999), 0)
    assert (train.steps, train.batch, train.warm_up, train.label_smoothing) == (1000, 64, 0.1, 0.2)
    assert (train.augment, train.clip, train.batches) == ("crop", None, "shuffled")
    assert (config.head.kind, config.head.train_template) == ("zero-shot", "first")
    assert (config.trains_tower, config.trains_text, config.head.prompts) == (True, True, "per-set")
    assert getattr(stream, "splits", "") == "zscl" and getattr(stream, "shots", 0) is None


def test_snd_trains_as_its_authors_do() -> None:
    config = made("snd")
    train: Any = config.train
    stream: Any = config.stream
    assert (train.lr, train.lr_factors, train.weight_decay) == (1e-5, None, 5e-4)
    assert (train.steps, train.batch, train.warm_up, train.label_smoothing) == (1000, 32, 0, 0)
    assert (train.augment, train.clip, config.reference_data.batch) == ("crop", None, 64)
    assert (config.trains_tower, config.trains_text) == (True, False)
    assert config.head.templates == ("a photo of a {}.",) and config.head.train_template is None
    assert stream.learnt == (*ROTATED, "StanfordCars", "UCF101") and stream.splits == "coop"
    last = made("snd", stream__order="cyclic-7").stream
    assert last.learnt == ("UCF101", *ROTATED, "StanfordCars")  # type: ignore[union-attr]


def test_xtail_has_the_words_of_its_authors() -> None:
    config = made("xtail")
    words: Any = config.head.words
    stream: Any = config.stream
    assert set(words) == {"EuroSAT", "MNIST"} and not any(w.templates for w in words.values())
    assert len(words["EuroSAT"].classes) == 10
    assert all(word.endswith(" satellite location") for word in words["EuroSAT"].classes)
    assert words["MNIST"].classes == {
        f"{k} - {word}": f'number: "{k} - {word}"' for k, word in enumerate(DIGITS)
    }
    assert (stream.shots, stream.splits, config.head.prompts) == (16, "coop", "shared")
    assert config.head.templates == ("a photo of a {}.",) and config.head.train_template is None


@pytest.mark.parametrize("name", ["mtil", "xtail", "snd"])
def test_protocols_have_the_base_of_the_papers(name: str) -> None:
    assert made(name).backbone.name == "open_clip:ViT-B-16/openai"
