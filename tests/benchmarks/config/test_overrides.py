"""Keys over a recipe: parts merge key by key, and one place gives a key and a length once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.config import Config, load_recipe, parse_overrides
from benchmarks.reproduce.recorded import with_set

TWICE = "is given twice; drop one of the two"
BOTH = r"train\.steps=30 and train\.epochs=1 both set the length of an experience: leave one out"


def recipe(folder: Path, text: str = "") -> Path:
    path = folder / "x.yaml"
    path.write_text(f"base: concepts.yaml\n{text}", encoding="utf-8")
    return path


def typed(folder: Path, *pairs: str, file: str = "", method: str = "fda") -> Config:
    return load_recipe(recipe(folder, file)).of_method(method, parse_overrides(pairs)).config


def test_a_part_as_a_mapping_merges_key_by_key(tmp_path: Path) -> None:
    for config in (
        typed(tmp_path, "train={epochs: 3}", "panel={each_experience: true}"),
        typed(tmp_path, file="train: {epochs: 3}\npanel: {each_experience: true}"),
    ):
        assert (config.train.epochs, config.train.lr, config.train.eval_batch) == (3, 3e-4, 50)
        assert config.panel.sets == ("shapes", "colours", "latin", "printed")
        assert config.panel.each_experience
    both = typed(tmp_path, "train.lr=1e-3", "train={epochs: 3}").train
    assert (both.lr, both.epochs) == (1e-3, 3)
    options = typed(tmp_path, "options={num_neighbors: 8}").options
    assert options == {"feature_module": "tower", "num_neighbors": 8}
    towers = typed(tmp_path, "backbone.train.image=frozen", "backbone={image_size: 32}").backbone
    assert (towers.train.image, towers.image_size) == ("frozen", 32)


def test_null_empties_a_mapping_and_another_kind_of_stream_replaces_one(tmp_path: Path) -> None:
    text = "train: {lr_factors: {greek: 5}}"
    assert typed(tmp_path, "train.lr_factors={digits: 2}", file=text).train.lr_factors == {
        "greek": 5.0,
        "digits": 2.0,
    }
    assert typed(tmp_path, "train={lr_factors: null}", file=text).train.lr_factors is None
    assert typed(tmp_path, "options.feature_module=null").options == {"feature_module": None}
    stream = typed(tmp_path, "stream={kind: sequence, sets: [CIFAR10]}").stream
    assert (stream.kind, getattr(stream, "sets", None)) == ("sequence", ("CIFAR10",))
    same = typed(tmp_path, "stream={kind: concepts}", file="stream: {sets: [greek]}").stream
    assert getattr(same, "sets", None) == ("greek",)


def test_a_part_is_split_into_its_keys() -> None:
    made = parse_overrides(["where={device: cpu}", "options={}", "backbone.train.text=full"])
    assert made == {"where.device": "cpu", "options": {}, "backbone.train": {"text": "full"}}


@pytest.mark.parametrize(
    ("pairs", "key"),
    [
        (("train.lr=1", "train={epochs: 3, lr: 1}"), "train.lr"),
        (("train={lr: 2}", "train.lr=1"), "train.lr"),
        (("panel=null", "panel.sets=[digits]"), "panel"),
        (("backbone={train: {text: full}}", "backbone.train.text=frozen"), "backbone.train.text"),
    ],
)
def test_a_key_that_is_given_twice_is_refused(pairs: tuple[str, ...], key: str) -> None:
    with pytest.raises(ValueError, match=f"^--set {key} {TWICE}$"):
        parse_overrides(pairs)


def test_a_key_that_is_given_twice_in_python_is_refused_too(tmp_path: Path) -> None:
    own = load_recipe(recipe(tmp_path))
    with pytest.raises(ValueError, match=f"^x.yaml: train.lr {TWICE}$"):
        own.of_method("fda", {"train.lr": 1, "train": {"lr": 1}})
    later = own.of_method("fda", {"train": {"lr": 1, "batch": 8}}, None, {"train.lr": 2}).config
    assert (later.train.lr, later.train.batch) == (2.0, 8)
    with pytest.raises(ValueError, match="method='rkd' cannot be set"):
        own.of_method("fda", {"method": "fda"}, {"method": "rkd"})


def test_two_lengths_in_one_place_are_refused_whatever_they_are(tmp_path: Path) -> None:
    for pairs in (
        ("train.steps=30", "train.epochs=1"),
        ("train={steps: 30}", "train.epochs=1"),
        ("train={steps: 30, epochs: 1}",),
    ):
        with pytest.raises(ValueError, match=f"^--set {BOTH}$"):
            parse_overrides(pairs)
    lengths = "train: {steps: 30, epochs: 1}"
    with pytest.raises(ValueError, match=rf"^x\.yaml: {BOTH}$"):
        typed(tmp_path, file=lengths)
    with pytest.raises(ValueError, match=rf"^x\.yaml: methods\.fda: {BOTH}$"):
        typed(tmp_path, file=f"methods: {{fda: {{{lengths}}}}}", method="lp-ft")
    above = tmp_path / "above.yaml"
    above.write_text("base: x.yaml", encoding="utf-8")
    with pytest.raises(ValueError, match=rf"^x\.yaml: methods\.fda: {BOTH}$"):
        load_recipe(above)


def lengths_of(config: Config) -> tuple[Any, Any]:
    return config.train.steps, config.train.epochs


def test_a_later_place_replaces_the_length_of_an_earlier_one(tmp_path: Path) -> None:
    """Also by the default number of epochs, and a null gives the earlier length back."""
    steps = "train: {steps: 30}"
    for pairs, text, expected in (
        (("train.epochs=1",), steps, (None, 1)),
        (("train={epochs: 4}",), steps, (None, 4)),
        (("train.steps=5", "train.epochs=null"), "", (5, 1)),
        (("train.steps=null",), steps, (None, 2)),
        (("train.lr=1",), f"{steps}\nmethods: {{fda: {{train: {{epochs: 1}}}}}}", (None, 1)),
        ((), f"train: {{epochs: 4}}\nmethods: {{fda: {{{steps}}}}}", (30, 1)),
    ):
        assert lengths_of(typed(tmp_path, *pairs, file=text)) == expected
    whole = typed(tmp_path, "train.steps=5")
    assert lengths_of(with_set(whole, {"train.lr": 1})) == (5, 1)
    assert lengths_of(with_set(whole, {"train.epochs": 1})) == (None, 1)
    assert lengths_of(with_set(typed(tmp_path, "train.epochs=4"), {"train.steps": 5})) == (5, 1)
