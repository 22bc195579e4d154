"""``strength: auto`` in recipes, commands, matrices and on the board."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.board.table import table
from benchmarks.config import RECIPES, load_recipe, path_configs, plain, read
from benchmarks.execution.matrix import Matrix
from benchmarks.methods.plugins import checked, plugins_of
from benchmarks.methods.registry import METHODS, strength_of_text, strength_text
from benchmarks.results.settings import rows_of
from tests.benchmarks.board.board_records import board, entries
from tests.benchmarks.records import finished, recipe

UNABLE = tuple(
    method
    for method, known in METHODS.items()
    if known.knob is not None and known.plugin in ("L2SPPlugin", "AdamSPDPlugin", "WiSEFTPlugin")
)


def test_a_recipe_makes_a_plugin_with_an_automatic_weight() -> None:
    config = recipe("ldifs", strength="auto")
    (plugin,) = plugins_of(config)
    assert plugin.weight == "auto" and plugin.auto_weight.drift == 0.12
    assert config.about == "ldifs, weight = auto"
    assert config.label.startswith("ldifs-auto-seed0-")
    assert read(plain(config)) == config
    assert config.identity != recipe("ldifs").identity


def test_options_of_the_rule() -> None:
    config = recipe("pkt", strength="auto", options__auto_weight__delta=0.25)
    (plugin,) = plugins_of(config)
    assert plugin.auto_weight.delta == 0.25 and plugin.auto_weight.penalty == 1.0
    for options, words in (
        ({"delat": 1}, r"options.auto_weight.delat does not exist; did you mean 'delta'\?"),
        ({"delta": 0}, "delta=0.0 must be above 0"),
    ):
        wrong = recipe("pkt", strength="auto", options__auto_weight=options)
        with pytest.raises(ValueError, match=f"concepts.yaml: {words}"):
            checked(wrong, "concepts.yaml")
    fixed = recipe("pkt", options__auto_weight__delta=0.25)
    with pytest.raises(ValueError, match=r"auto_weight=.* has no effect with weight=1.0"):
        checked(fixed, "concepts.yaml")


@pytest.mark.parametrize("method", UNABLE)
def test_methods_without_a_term_on_features_refuse_it(method: str) -> None:
    config = recipe(method, strength="auto")
    with pytest.raises(ValueError, match=f"strength=auto: {method} has no term on features.* give"):
        checked(config, "concepts.yaml")


def test_methods_without_a_strength_refuse_it() -> None:
    with pytest.raises(ValueError, match="strength=auto: finetune has none; methods with"):
        recipe("finetune", strength="auto")


def test_other_texts_are_no_strength() -> None:
    with pytest.raises(ValueError, match="strength"):
        recipe("ldifs", strength="automatic")
    with pytest.raises(ValueError, match="automatic"):
        strength_of_text("automatic")
    assert strength_of_text("auto") == "auto" and strength_of_text("1e3") == 1000.0
    assert [strength_text(s) for s in (0.3, 1000.0, "auto")] == ["0.3", "1000", "auto"]


def test_paths_and_matrices_may_hold_it() -> None:
    path = path_configs(recipe("ldifs"), [100, "auto"])
    assert [config.strength for config in path] == [100.0, "auto"]
    keys = {"grid": [1, "auto"], "coarse": ["auto"]}
    entry = load_recipe(RECIPES / "concepts.yaml").of_method("ldifs", keys)
    assert (entry.grid, entry.coarse) == ((1.0, "auto"), ("auto",))
    matrix = Matrix(streams=("concepts.yaml",), strengths={"ldifs": (10.0, "auto")})
    assert matrix.strengths_of("ldifs") == (10.0, "auto")


def test_the_board_shows_it_beside_the_path_of_numbers(tmp_path: Path) -> None:
    strengths: tuple[Any, ...] = (1000.0, "auto", 10.0)
    records = [finished(recipe("ldifs", strength=s, seed=k)) for s in strengths for k in (0, 1)]
    rows = rows_of(records)
    assert [row.label for row in rows] == ["ldifs 10", "ldifs 1000", "ldifs auto"]
    assert "| ldifs | auto |" in table(rows).replace("**", "")
    paths = {name: entry.path for name, entry in entries(board(records, tmp_path)).items()}
    assert paths["ldifs 10"] == paths["ldifs 1000"] != paths["ldifs auto"]
