"""The registry of methods: complete entries, and plugins that exist."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from avalanche_proxyfda import plugins
from benchmarks.config.recipes import load_recipe
from benchmarks.methods.plugins import arguments_of, make_plugins, needs_reference, plugins_of
from benchmarks.methods.registry import METHODS, PLAIN, Method, check_method, version_of

ROOT = Path(__file__).parents[3]
WHOLE: dict[str, Any] = {
    "about": "a toy",
    "version": 1,
    "colour": "#102030",
    "dark_colour": "#a0b0c0",
    "marker": "o",
}
KNOB: dict[str, Any] = {
    "plugin": "FDAPlugin",
    "knob": "weight",
    "strength": 1,
    "grid": (0.1, 1, 10),
}


@pytest.mark.parametrize("name", list(WHOLE))
def test_a_missing_field_is_refused_by_its_name(name: str) -> None:
    assert Method(**WHOLE).grid == ()
    with pytest.raises(TypeError, match=f"'{name}'"):
        Method(**{key: value for key, value in WHOLE.items() if key != name})


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("about", " ", "about is empty"),
        ("version", 0, "version=0 must be a whole number from 1"),
        ("version", True, "version=True must"),
        ("version", 1.0, "version=1.0 must"),
        ("colour", "red", "colour='red' must be #rrggbb"),
        ("colour", "#ABCDEF", "colour='#ABCDEF' must be #rrggbb in lower case"),
        ("dark_colour", "#12345", "dark_colour='#12345' must be #rrggbb"),
        ("marker", "oo", "marker='oo' must be one of"),
        ("marker", "", "marker='' must be one of"),
        ("plugin", None, "plugin=None, knob='weight': give both or neither"),
        ("knob", None, "plugin='FDAPlugin', knob=None: give both or neither"),
        ("strength", None, "strength=None must be one of grid"),
        ("strength", 2, "strength=2 must be one of grid"),
        ("grid", (), r"strength=1 must be one of grid=\(\)"),
        ("grid", (1, 0.1), "grid=.* must hold different numbers in ascending order"),
        ("grid", (1, 1), "grid=.* must hold different numbers in ascending order"),
    ],
)
def test_a_bad_field_is_refused_by_its_name(name: str, value: Any, words: str) -> None:
    whole = Method(**WHOLE, **KNOB)
    with pytest.raises(ValueError, match=words):
        replace(whole, **{name: value})


@pytest.mark.parametrize("field", ["strength", "grid"])
def test_a_path_needs_a_knob(field: str) -> None:
    with pytest.raises(ValueError, match="strength and grid need a knob"):
        Method(**WHOLE, **{field: KNOB[field]})


def test_looks_are_told_apart() -> None:
    for field in ("colour", "dark_colour"):
        assert len({getattr(method, field) for method in METHODS.values()}) == len(METHODS)
    assert len({(method.colour, method.marker) for method in METHODS.values()}) == len(METHODS)


@pytest.mark.parametrize("name", list(METHODS))
def test_the_plugin_exists_and_takes_the_knob(name: str) -> None:
    method = METHODS[name]
    if method.plugin is None:
        assert (name in PLAIN) == method.trains_tower and arguments_of(name) == ()
        return
    assert method.plugin in plugins.__all__ and isinstance(getattr(plugins, method.plugin), type)
    assert method.knob in arguments_of(name)
    assert name not in PLAIN and version_of(name) == method.version


ON_REFERENCE = ("zscl", "lipsum-ft", "snd", "dive")


def test_methods_on_reference_data_are_known_by_their_plugins() -> None:
    assert tuple(name for name in METHODS if needs_reference(name)) == ON_REFERENCE
    with pytest.raises(ValueError, match=r"method='sdn' is unknown; did you mean 'snd'"):
        needs_reference("sdn")


@pytest.mark.parametrize("name", ON_REFERENCE)
def test_a_recipe_without_reference_data_runs_them_on_generated_images(name: str) -> None:
    config = load_recipe(ROOT / "benchmarks/recipes/concepts.yaml").of_method(name, {}).config
    (plugin,) = plugins_of(config)
    assert plugin.reference_data is not None
    assert plugin.choice == ("previous" if name == "snd" else "initial")
    for key in ("images", "texts"):
        if key == "texts" and not plugin.reads_texts:
            continue
        bare = {"reference_data.images": None, "reference_data.texts": None}
        missing = bare if key == "images" else {"reference_data.texts": None}
        recipe = load_recipe(ROOT / "benchmarks/recipes/concepts.yaml", missing)
        with pytest.raises(ValueError, match=rf"set reference_data\.{key}="):
            plugins_of(recipe.of_method(name, missing).config)


def test_an_unknown_method_names_the_nearest() -> None:
    assert check_method("fda") == "fda"
    with pytest.raises(
        ValueError, match=r"method='proxyfda' is unknown; did you mean 'proxy-fda'\?"
    ):
        check_method("proxyfda")
    with pytest.raises(ValueError, match=r"method='\?' is unknown; choose one of \('finetune'"):
        check_method("?")
    assert version_of("?") is None


def test_importing_the_registry_is_cheap() -> None:
    code = (
        "import sys, benchmarks.methods.registry\n"
        "print(sorted({'torch', 'avalanche', 'pydantic', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, encoding="utf-8"
    )
    assert done.stdout == "[]\n", done.stderr


def test_a_plugin_that_the_package_does_not_list_is_named_with_the_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(METHODS, "cosine", Method(**WHOLE, **{**KNOB, "plugin": "CosinePlugin"}))
    words = r"'cosine': its plugin CosinePlugin is no public name .*plugins/__init__\.pyi$"
    with pytest.raises(ValueError, match=words):
        make_plugins("cosine", 1.0)
    with pytest.raises(ValueError, match=words):
        needs_reference("cosine")
