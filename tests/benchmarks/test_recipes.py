"""Configurations: what is refused and how, what decides a run's identity, and the recipes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.config import Config, plain, read
from benchmarks.methods.registry import METHODS
from benchmarks.recipe_files import RECIPES, find_recipe, load_recipe, parse_overrides

STREAMS = sorted(path.stem for path in RECIPES.glob("*.yaml"))


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_a_recipe_on_every_stream(stream: str, method: str) -> None:
    above = load_recipe(RECIPES / f"{stream}.yaml")
    assert above.methods and set(above.methods) <= set(METHODS)
    made = load_recipe(above.of_method(method))
    config, knob = made.config, METHODS[method].knob
    assert config.method == method and made.methods == () and made.stream == stream
    assert plain(config)["stream"] == plain(above.config)["stream"]
    assert (knob is None) == (config.strength is None) == (not made.grid)
    if knob is not None:
        fellows = [load_recipe(above.of_method(m)) for m in above.methods]
        budgets = {len(m.grid) for m in fellows if m.grid}
        assert len(budgets) == 1  # the same for all that are compared
        assert len(made.grid) in {5, *budgets}
        assert config.strength in made.grid and set(made.coarse) <= set(made.grid)
        if knob != "mu":
            assert getattr(config.make_plugins()[0], knob) == config.strength
    assert config.head.kind == ("random" if method == "finetune" else "probe")


def test_there_is_no_recipe_without_a_method() -> None:
    for stream in STREAMS:
        assert {p.stem for p in (RECIPES / stream).glob("*.yaml")} == set(METHODS)
    assert {p.name for p in RECIPES.iterdir() if p.is_dir()} == set(STREAMS)


def write(folder: Path, text: str, name: str = "x.yaml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("strenght: 1", r"x.yaml: 'strenght' is not a key; did you mean 'strength'\?"),
        ("train: {lrs: 1}", r"'train.lrs' is not a key; did you mean 'train.lr'\?"),
        ("zzz: 1", "'zzz' is not a key; known: method, strength"),
        (
            "stream: {kind: imagenet-r, sets: []}",
            "'stream.sets' is not a key; did you mean 'stream.lists'",
        ),
        (
            "stream: {kind: imagenet}",
            "stream.kind='imagenet' must be one of concepts, sequence, imagenet-r",
        ),
        ("method: ewc", "method='ewc' is unknown; choose one of"),
        ("method: proxy-fd", "did you mean 'proxy-fda'"),
        ("methods: [fdaa]", "method='fdaa' is unknown; did you mean 'fda'"),
        ("method: fda", r"strength=None: fda needs one \(weight\)"),
        ("strength: 1", "strength=1.0: finetune has none"),
        ("method: fda\nstrength: -1", "weight=-1.0 must be finite and not negative"),
        ("method: fda\nstrength: x", "strength='x': Input should be a valid number"),
        (
            "method: fda\nstrength: 1\noptions: {num_neighbor: 3}",
            r"options.num_neighbor is no argument of FDAPlugin; did you mean 'num_neighbors'\?",
        ),
        ("method: fda\nstrength: 1\noptions: {weight: 3}", "options.weight is no argument"),
        (
            "method: fda\nstrength: 1\noptions: {samples_per_class: 4}",
            "options.samples_per_class: every method has the same batches; set train.samples",
        ),
        ("options: {weight: 3}", "plain fine-tuning has none"),
        ("stream: {sets: [a]}", "stream.kind=None must be one of"),
        ("stream: {kind: concepts, sets: []}", "stream.sets needs at least one data set"),
        (
            "stream: {kind: concepts}\npanel: {sets: [digits]}",
            r"\['digits'\] cannot be learnt and be on the panel at once",
        ),
        ("method: lp-ft\nhead: {kind: random}", "head.kind='random': lp-ft begins with a probe"),
        ("train: {lr: -1}", "train.lr=-1: Input should be greater than or equal to 0"),
        ("train: {epochs: [1, 0]}", "train.epochs"),
        ("seed: one\ntrain: {batch: 1}", "seed='one': Input.*train.batch=1: Input"),
        ("base: nowhere.yaml", "base='nowhere.yaml' is no file"),
        ("base: x.yaml", "x.yaml: it is its own base"),
        ("[1]", "must hold keys and values"),
        ("a: [", "x.yaml is not YAML"),
        ("grid: [a]", "x.yaml: could not convert"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        load_recipe(write(tmp_path, text))
    assert str(caught.value).startswith("x.yaml") and "\n" not in str(caught.value)


def test_a_recipe_builds_on_another_and_is_overridden(tmp_path: Path) -> None:
    write(
        tmp_path,
        "train: {lr: 0.1, epochs: 2}\nmethods: [fda]\nstream: {kind: concepts, sets: [digits]}",
        "a.yaml",
    )
    write(tmp_path, "base: a.yaml\ntrain: {lr: 0.2}\ngrid: [1e-1, 2]", "b.yaml")
    made = load_recipe(write(tmp_path, "base: b.yaml\nseed: 3"), {"train.batch": 8})
    assert (made.config.train.lr, made.config.train.epochs, made.config.train.batch) == (0.2, 2, 8)
    assert made.grid == (0.1, 2.0) and made.methods == () and made.config.seed == 3
    other = write(tmp_path, "base: a.yaml\nstream: {kind: imagenet-r}", "c.yaml")
    assert plain(load_recipe(other).config)["stream"]["root"] == "imagenet-r"  # sets are gone
    changed = load_recipe(tmp_path / "a.yaml", {"stream.kind": "concepts"}).config
    assert plain(changed)["stream"]["sets"] == ["digits"]
    own = {"stream.sets": ["CIFAR10"], "stream.kind": "sequence"}
    moved = load_recipe(RECIPES / "imagenet_r/fda.yaml", own).config  # the root is gone
    assert plain(moved)["stream"]["sets"] == ["CIFAR10"]


def test_overrides_are_yaml() -> None:
    made = parse_overrides(["train.lr=1e-4", "panel.sets=[a, b]", "head.l2=null", "seed=3"])
    assert made == {"train.lr": "1e-4", "panel.sets": ["a", "b"], "head.l2": None, "seed": 3}
    config = load_recipe(RECIPES / "concepts.yaml", {"train.lr": "1e-4"}).config
    assert config.train.lr == 1e-4  # YAML 1.1 reads 1e-4 as a text
    for bad in ("lr", "=3"):
        with pytest.raises(ValueError, match="give key=value"):
            parse_overrides([bad])
    with pytest.raises(ValueError, match="not YAML"):
        parse_overrides(["a=["])


def test_identity_is_what_decides_the_numbers() -> None:
    def made(**changes: Any) -> Config:
        return load_recipe(RECIPES / "concepts/fda.yaml", changes).config

    plain_one = made()
    assert made(**{"where.data": "elsewhere", "where.device": "x"}).identity == plain_one.identity
    assert made(**{"train.workers": 2}).identity != plain_one.identity  # other random views
    seen = {plain_one.identity}
    for key, value in (
        ("seed", 1),
        ("train.lr", 1e-3),
        ("strength", 2),
        ("stream.sets", ["greek"]),
    ):
        seen.add(made(**{key: value}).identity)
    assert len(seen) == 5
    assert read(plain(plain_one)) == plain_one  # also through JSON's types
    assert read(yaml.safe_load(yaml.safe_dump(plain(plain_one)))).identity == plain_one.identity
    assert plain_one.label == f"fda-0.3-seed0-{plain_one.identity[:8]}"


def test_recipes_are_found_by_their_name_or_their_neighbours(tmp_path: Path) -> None:
    expected = RECIPES / "pacs_mobilenet.yaml"
    for name in ("recipes/pacs_mobilenet.yaml", "pacs_mobilenet.yaml", str(expected)):
        assert find_recipe(name) == expected
    with pytest.raises(
        FileNotFoundError, match=r"near ones among the recipes: pacs_mobilenet\.yaml"
    ):
        find_recipe("recipes/pacs_mobilnet.yaml")


def test_balanced_batches_are_of_one_size_for_all() -> None:
    sizes = {"train.classes_per_batch": 8, "train.samples_per_class": 4}
    plugin = load_recipe(RECIPES / "concepts/fda.yaml", sizes).config.make_plugins()[0]
    assert plugin._batches.sizes(20, 64) == (8, 4)


def test_shuffled_batches_keep_the_plugins_from_bringing_their_own() -> None:
    made = load_recipe(RECIPES / "concepts/fda.yaml", {"train.batches": "shuffled"}).config
    assert made.make_plugins()[0]._batches is None
    own = {"train.batches": "shuffled", "options.hard_class_batches": True}
    assert load_recipe(RECIPES / "concepts/fda.yaml", own).config.make_plugins()[0]._batches
