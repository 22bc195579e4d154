"""Recipes: the shipped ones, how they build on each other, and how the wrong ones are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.config import (
    RECIPES,
    Config,
    find_recipe,
    load_recipe,
    parse_overrides,
    plain,
    read,
)
from benchmarks.methods.plugins import checked, plugins_of
from benchmarks.methods.registry import METHODS

STREAMS = sorted(path.stem for path in RECIPES.glob("*.yaml"))
IDENTITIES = json.loads(Path(__file__).with_name("identities.json").read_text(encoding="utf-8"))


def shipped(stream: str, method: str, overrides: dict[str, Any] | None = None) -> Config:
    return load_recipe(RECIPES / f"{stream}.yaml").of_method(method, overrides).config


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_a_recipe_on_every_stream(stream: str, method: str) -> None:
    above = load_recipe(RECIPES / f"{stream}.yaml")
    assert above.compare and set(above.compare) <= set(METHODS)
    assert above.method is None and above.stream == stream
    made = above.of_method(method)
    config, knob = checked(made.config, stream), METHODS[method].knob
    assert config.method == method
    assert plain(config)["stream"] == plain(above.config)["stream"]
    assert (knob is None) == (config.strength is None) == (not made.grid)
    if knob is not None:
        compared = [above.of_method(m) for m in above.compare]
        budgets = {len(m.grid) for m in compared if m.grid}
        assert len(budgets) == 1  # the same for all that are compared
        assert len(made.grid) in {5, *budgets}
        assert config.strength in made.grid and set(made.coarse) <= set(made.grid)
        if knob != "mu":
            assert getattr(plugins_of(config)[0], knob) == config.strength
    with_texts = config.backbone.name.startswith("open_clip:")
    plain_head = "text-start" if with_texts else "random"
    usual_head = plain_head if method == "finetune" else "probe"
    fixed = above.config.head.kind == "zero-shot" and method != "lp-ft"
    assert config.head.kind == ("zero-shot" if fixed else usual_head)


def test_shipped_runs_keep_their_identities() -> None:
    """Committed records belong to these runs: a changed identity orphans them."""
    assert set(IDENTITIES) == set(STREAMS)
    for stream, identities in IDENTITIES.items():
        found = {method: shipped(stream, method).identity[:12] for method in identities}
        assert found == identities, stream


def test_a_stream_has_one_file() -> None:
    assert [p.name for p in sorted(RECIPES.iterdir())] == [f"{stream}.yaml" for stream in STREAMS]


def write(folder: Path, text: str, name: str = "x.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def planned(path: Path) -> Config:
    """The configuration of a file, as a command plans it."""
    return checked(load_recipe(path).config, path.name)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("strenght: 1", r"x.yaml: 'strenght' is not a key; did you mean 'strength'\?"),
        ("train: {lrs: 1}", r"'train.lrs' is not a key; did you mean 'train.lr'\?"),
        ("zzz: 1", "'zzz' is not a key; known: method, strength"),
        ("comprae: [fda]", r"'comprae' is not a key; did you mean 'compare'\?"),
        (
            "stream: {kind: imagenet-r, sets: []}",
            "'stream.sets' is not a key; did you mean 'stream.lists'",
        ),
        (
            "stream: {kind: imagenet}",
            "stream.kind='imagenet' must be one of concepts, sequence, imagenet-r.*; "
            r"did you mean 'imagenet-r'\?",
        ),
        ("method: ewc", "method='ewc' is unknown; choose one of"),
        ("method: proxy-fd", "did you mean 'proxy-fda'"),
        ("method: 3", "method='3' is unknown"),
        ("compare: [fdaa]", "method='fdaa' is unknown; did you mean 'fda'"),
        ("compare: fda", "compare='fda' must be a list of methods"),
        ("compare: [fda, fda]", "each may be given once"),
        ("method: fda\ncompare: [fda]", "the recipe of one method compares none"),
        ("methods: fda", "must be a list of methods to compare, or map each method to .*"),
        ("methods: [fdaa]", "method='fdaa' is unknown; did you mean 'fda'"),
        ("methods: [fda, fda]", "each may be given once"),
        ("methods: [fda]\ncompare: [rkd]", "methods and compare both list methods: leave one out"),
        ("method: FDA", "did you mean 'fda'"),
        ("methods: {fdaa: null}", "method='fdaa' is unknown; did you mean 'fda'"),
        ("methods: {fda: 3}", "methods.fda=3 must hold keys and values, or nothing"),
        (
            "methods: {fda: {strenght: 1}}",
            r"x.yaml: 'methods.fda.strenght' is not a key; did you mean 'methods.fda.strength'\?",
        ),
        (
            "methods: {fda: {train: {lrs: 1}}}",
            r"'methods.fda.train.lrs' is not a key; did you mean 'methods.fda.train.lr'\?",
        ),
        ("methods: {fda: {method: rkd}}", "'methods.fda.method' is not a key"),
        ("methods: {fda: {stream: {}}}", "'methods.fda.stream' is not a key"),
        (
            "method: fda\nstrength: null",
            r"strength=None: fda needs one \(weight\); usual is 1, of the grid 0.1, 0.3, 1, 3, 10",
        ),
        ("strength: 1", "strength=1.0: finetune has none; methods with a strength: l2sp, ldifs,"),
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
        ("method: fda\noptions: {num_neighbors: x}", "num_neighbors='x' must be an int"),
        ("options: {weight: 3}", "finetune has no plugin, and so none"),
        ("stream: {sets: [a]}", "stream.kind=None must be one of [^;]*$"),
        (
            "stream: {kind: concept}",
            r"x.yaml: stream.kind='concept' must be one of .*; did you mean 'concepts'\?",
        ),
        (
            "stream: {kind: concepts, order: 3}",
            r"x.yaml: stream\.order=3: Input should be a valid string; stream\.order=3: Input",
        ),
        (
            "head: {words: {DTD: {classess: [a]}}}",
            r"head\.words Input .* string; head\.words\.DTD\.classess Unexpected",
        ),
        ("head: {templates: [foo]}", r"head\.templates: the template 'foo' must hold {} once"),
        ("head: {templates: ['{}', '{} {a}']}", r"head\.templates: the template '{} {a}' must"),
        ("head: {templates: []}", r"head\.templates=\[\] must hold one prompt at least; leave"),
        (
            "head: {kind: zero-shot, train_template: '{} or {}'}",
            r"head\.train_template: the template '{} or {}' must hold .* brace, or be 'first'",
        ),
        ("stream: {kind: concepts, sets: []}", "stream.sets needs at least one data set"),
        (
            "stream: {kind: concepts}\npanel: {sets: [digits]}",
            r"\['digits'\] cannot be learnt and be on the panel at once: remove them",
        ),
        ("method: lp-ft\nhead: {kind: random}", "head.kind='random': lp-ft begins with a probe"),
        ("train: {lr: -1}", "train.lr=-1: Input should be greater than or equal to 0"),
        ("train: {epochs: [1, 0]}", "train.epochs"),
        (
            "train: {momentum: 0.9}",
            "train.momentum=0.9: train.optimizer=adamw has none; leave it out, "
            "or set train.optimizer=sgd",
        ),
        ("train: {optimizer: adam, momentum: 0.9}", "train.optimizer=adam has none"),
        (
            "train: {optimizer: sgd, betas: [0.9, 0.98]}",
            r"train.betas=\(0.9, 0.98\): train.optimizer=sgd has none; leave it out, "
            "or set train.optimizer=adamw or adam",
        ),
        ("train: {optimizer: rmsprop}", "train.optimizer='rmsprop': Input should be 'adamw'"),
        ("train: {betas: [0.9, 1]}", "train.betas.1=1: Input should be less than 1"),
        ("train: {betas: [0.9]}", "train.betas"),
        ("train: {optimizer: sgd, momentum: 1}", "train.momentum=1: Input should be less than 1"),
        ("seed: one\ntrain: {batch: 1}", "seed='one': Input.*train.batch=1: Input"),
        ("base: nowhere.yaml", "base='nowhere.yaml' is no file"),
        ("base: Concept.yaml", r"is no file \(did you mean 'concepts\.yaml'\?\), neither beside"),
        ("base: x.yaml", "x.yaml: it is its own base"),
        ("[1]", "must hold keys and values"),
        ("a: [", "x.yaml is not YAML"),
        ("method: fda\ngrid: [a]", "x.yaml: could not convert"),
        ("method: fda\ngrid: 3", "grid=3 must be a list of numbers"),
        ("grid: [1]", r"grid=\[1\] belongs to one method: write it under methods"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        planned(write(tmp_path, text))
    assert str(caught.value).startswith("x.yaml") and "\n" not in str(caught.value)


def test_what_is_wrong_in_an_entry_is_said_in_one_line(tmp_path: Path) -> None:
    entries = "methods: {fda: {strength: x}, rkd: {grid: [a]}, rift: {options: {k: 1}}}"
    recipe = load_recipe(write(tmp_path, entries))
    for method, words in (
        ("fda", "x.yaml: strength='x': Input should be a valid number"),
        ("rkd", "x.yaml: could not convert"),
        ("rift", "x.yaml: options.k is no argument of RIFTPlugin"),
        ("ewc", "x.yaml: method='ewc' is unknown"),
    ):
        with pytest.raises(ValueError, match=words) as caught:
            checked(recipe.of_method(method).config, "x.yaml")
        assert "\n" not in str(caught.value)


def test_a_recipe_builds_on_another_and_is_overridden(tmp_path: Path) -> None:
    write(
        tmp_path,
        "train: {lr: 0.1, epochs: 2}\ncompare: [fda]\nstream: {kind: concepts, sets: [digits]}",
        "a.yaml",
    )
    write(tmp_path, "base: a.yaml\nmethod: l2sp\ntrain: {lr: 0.2}\ngrid: [1e-1, 2]", "b.yaml")
    made = load_recipe(write(tmp_path, "base: b.yaml\nseed: 3"), {"train.batch": 8})
    assert (made.config.train.lr, made.config.train.epochs, made.config.train.batch) == (0.2, 2, 8)
    assert made.alone.grid == (0.1, 2.0) and made.compare == () and made.config.seed == 3
    assert made.method == made.config.method == "l2sp" and made.config.strength == 0.5
    other = load_recipe(write(tmp_path, "base: a.yaml\nstream: {kind: imagenet-r}", "c.yaml"))
    assert plain(other.config)["stream"]["root"] == "imagenet-r"  # sets are gone
    assert other.compare == ("fda",) and other.stream == "c"
    changed = load_recipe(tmp_path / "a.yaml", {"stream.kind": "concepts"}).config
    assert plain(changed)["stream"]["sets"] == ["digits"]
    own = {"stream.sets": ["CIFAR10"], "stream.kind": "sequence"}
    moved = shipped("imagenet_r", "fda", own)  # the root is gone
    assert plain(moved)["stream"]["sets"] == ["CIFAR10"]


def test_each_layer_of_a_method_wins_over_the_one_beneath(tmp_path: Path) -> None:
    """Stream, registry, entry of the file, overrides, in this order."""
    text = "head: {kind: probe, l2: 1}\ntrain: {lr: 1}\nmethods: {%s}"
    path = write(tmp_path, text % "fda: {strength: 3, options: {num_neighbors: 4}}, rkd: null")
    recipe = load_recipe(path)
    fda = recipe.of_method("fda", {"train.lr": 2, "options.feature_module": None})
    assert fda.config.strength == 3.0 and fda.grid == METHODS["fda"].grid and fda.coarse == ()
    assert fda.config.options == {"feature_module": None, "num_neighbors": 4}
    assert (fda.config.train.lr, recipe.of_method("fda").config.train.lr) == (2.0, 1.0)
    assert recipe.of_method("rkd").config.strength == METHODS["rkd"].strength
    finetune = recipe.of_method("finetune").config
    assert (finetune.head.kind, finetune.head.l2) == ("random", 1.0)
    assert METHODS["fda"].settings["options"] == {"feature_module": "tower"}  # no layer is changed


def test_the_later_length_of_an_experience_replaces_the_earlier(tmp_path: Path) -> None:
    below = tmp_path / "below.yaml"
    below.write_text("base: concepts.yaml\ntrain: {epochs: 6}\n", encoding="utf-8")
    above = tmp_path / "above.yaml"
    above.write_text("base: below.yaml\ntrain: {steps: [3, 4]}\n", encoding="utf-8")

    def lengths(path: Path, *pairs: str) -> tuple[Any, Any]:
        train = load_recipe(path).of_method("lp-ft", parse_overrides(pairs)).config.train
        return train.epochs, train.steps

    assert lengths(above) == (1, (3, 4))
    assert lengths(below, "train.steps=5") == (1, 5)
    assert lengths(above, "train.epochs=2") == (2, None)
    assert lengths(below, "train.steps=null") == (6, None)
    with pytest.raises(ValueError, match=r"steps=5 and train\.epochs=2 both set"):
        lengths(below, "train.steps=5", "train.epochs=2")


def test_an_own_recipe_builds_on_a_shipped_one(tmp_path: Path) -> None:
    own = load_recipe(write(tmp_path, "base: concepts.yaml\ntrain: {lr: 0.5}"))
    assert own.compare == load_recipe(RECIPES / "concepts.yaml").compare and own.method is None
    fda = own.of_method("fda")
    assert (fda.config.train.lr, fda.config.strength, fda.coarse) == (0.5, 0.3, (0.3, 1.0))
    text = "base: ldifs.yaml\nmethods: {fda: {strength: 7}, proxy-fda: null}"
    own = load_recipe(write(tmp_path, text, "y.yaml"))
    fda = own.of_method("fda").config
    assert (fda.train.batch, fda.train.batches, fda.strength) == (64, "balanced", 7.0)
    assert own.of_method("proxy-fda").config.train.batches == "shuffled"  # the stream's


def test_an_own_recipe_may_list_its_methods(tmp_path: Path) -> None:
    own = load_recipe(write(tmp_path, "base: concepts.yaml\nmethods: [fda, l2sp]"))
    assert own.compare == ("fda", "l2sp") and own.method is None
    assert own.of_method("fda").config.strength == 0.3  # the base's entry stays
    alone = load_recipe(write(tmp_path, "stream: {kind: concepts}\nmethods: [lp-ft]", "y.yaml"))
    assert alone.compare == ("lp-ft",)
    last = load_recipe(write(tmp_path, "base: x.yaml\nmethods: {fda: {strength: 7}}", "z.yaml"))
    assert last.compare == ("fda", "l2sp") and last.of_method("fda").config.strength == 7.0


def test_an_own_recipe_may_be_of_one_method(tmp_path: Path) -> None:
    one = load_recipe(write(tmp_path, "base: concepts.yaml\nmethod: fda\ntrain: {lr: 0.5}"))
    assert (one.method, one.compare, one.config.train.lr) == ("fda", (), 0.5)
    assert (one.config.strength, one.alone.grid[0], one.alone.coarse) == (0.3, 0.03, (0.3, 1.0))
    assert one.config.options == {"feature_module": "tower"}
    text = "base: ldifs.yaml\nmethod: fda\nstrength: 2\noptions: {feature_module: null}"
    one = load_recipe(write(tmp_path, text))
    assert one.config.strength == 2.0 and one.alone.grid == METHODS["fda"].grid
    assert one.config.options == {"feature_module": None}
    assert load_recipe(write(tmp_path, "method: finetune")).config.head.kind == "random"
    with pytest.raises(ValueError, match=r"x\.yaml is the recipe of one method already"):
        one.of_method("rkd")
    same = load_recipe(RECIPES / "concepts.yaml", {"method": "fda"})
    assert same.config == shipped("concepts", "fda") and same.method == "fda"
    write(tmp_path, "strength: 2", "z.yaml")
    with pytest.raises(ValueError, match="strength=2 belongs to one method"):
        load_recipe(write(tmp_path, "base: z.yaml\nmethod: fda"))


def test_what_an_override_cannot_set_is_refused() -> None:
    recipe = load_recipe(RECIPES / "concepts.yaml")
    for key, words in (
        ("method", r"concepts\.yaml: method='rkd' cannot be set, .* say --methods rkd"),
        ("methods.fda.strength", r"write a recipe with base: and methods\.fda\.strength in it"),
        ("compare", "'compare' cannot be set"),
        ("train.lrs", r"did you mean 'train.lr'\?"),
    ):
        with pytest.raises(ValueError, match=words):
            recipe.of_method("fda", {key: "rkd"})
    assert recipe.of_method("fda", {"method": "fda", "grid": [1, 2]}).grid == (1.0, 2.0)


def test_overrides_are_yaml() -> None:
    made = parse_overrides(["train.lr=1e-4", "panel.sets=[a, b]", "head.l2=null", "seed=3"])
    assert made == {"train.lr": 1e-4, "panel.sets": ["a", "b"], "head.l2": None, "seed": 3}
    for bad in ("lr", "=3"):
        with pytest.raises(ValueError, match="give key=value"):
            parse_overrides([bad])
    with pytest.raises(ValueError, match="not YAML"):
        parse_overrides(["a=["])


def test_identity_is_what_decides_the_numbers() -> None:
    def made(**changes: Any) -> Config:
        return shipped("concepts", "fda", changes)

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
    for name in ("imagenet_r/proxy-fda.yaml", "recipes/imagenet_r/proxy-fda.yaml"):
        with pytest.raises(
            FileNotFoundError, match=r"say --config imagenet_r\.yaml --methods proxy-fda$"
        ):
            find_recipe(name)


def test_balanced_batches_are_of_one_size_for_all() -> None:
    sizes = {"train.classes_per_batch": 8, "train.samples_per_class": 4}
    plugin = plugins_of(shipped("concepts", "fda", sizes))[0]
    assert plugin._batches.sizes(20, 64) == (8, 4)


def test_shuffled_batches_keep_the_plugins_from_bringing_their_own() -> None:
    made = shipped("concepts", "fda", {"train.batches": "shuffled"})
    assert plugins_of(made)[0]._batches is None
    own = {"train.batches": "shuffled", "options.hard_class_batches": True}
    assert plugins_of(shipped("concepts", "fda", own))[0]._batches


def test_a_recipe_without_methods_trains_plain_fine_tuning_with_its_usual_head(
    tmp_path: Path,
) -> None:
    plain = load_recipe(write(tmp_path, "stream: {kind: concepts}\n"))
    assert plain.alone == plain.of_method("finetune") and plain.alone.config.head.kind == "random"
    text = "stream: {kind: concepts}\nhead: {kind: probe}\n"  # the recipe's own word counts
    assert load_recipe(write(tmp_path, text)).alone.config.head.kind == "probe"
    entry = "stream: {kind: concepts}\nmethods: {finetune: {train: {lr: 3}}}\n"
    assert load_recipe(write(tmp_path, entry)).alone.config.train.lr == 3
    for empty in ("methods: []", "compare: []"):
        with pytest.raises(ValueError, match=r"compare=\[\] names no method: leave it out"):
            load_recipe(write(tmp_path, f"stream: {{kind: concepts}}\n{empty}\n"))
