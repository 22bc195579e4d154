"""Paths over strengths, and the recipes that name them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.engine import RunConfig
from benchmarks.figure import draw_paths
from benchmarks.methods import METHODS, RECIPES, read_recipe, recipe
from benchmarks.path import lambda_path, path_configs, path_points


def fake(config: RunConfig) -> dict[str, Any]:
    """A record in which validation and test disagree about the best strength."""
    from dataclasses import asdict

    strength = config.strength or 0.0
    return {
        "config": asdict(config),
        "test": {
            "stream_accuracy": 0.6 + strength / 100, "delta_lp": -0.02,
            "forgetting_avalanche": 0.1,
        },
        "validation": {
            "stream_accuracy": 0.7 - abs(strength - 1), "delta_lp": -abs(strength - 1) / 2,
        },
    }  # fmt: skip


def test_a_path_has_a_point_a_strength_and_validation_chooses() -> None:
    points = lambda_path(RunConfig.of("fda"), [3.0, 0.5, 1.0], fake)
    assert [p.strength for p in points] == [0.5, 1.0, 3.0]
    assert [p.chosen for p in points] == [False, True, False]  # the test's best is 3
    chosen = points[1]
    assert (chosen.stream_accuracy, chosen.delta_lp) == (pytest.approx(0.61), -0.02)
    assert chosen.score == pytest.approx(0.7) and chosen.record["config"]["method"] == "fda"


def test_a_tie_takes_the_weaker_and_plain_fine_tuning_is_a_point() -> None:
    points = lambda_path(RunConfig.of("l2sp"), [1.5, 0.5], fake)
    assert [p.chosen for p in points] == [True, False]
    points = lambda_path(RunConfig.of("wise-ft"), [0.5, 0.9], lambda c: {**fake(c), "validation": {
        "stream_accuracy": 0.7, "delta_lp": 0.0}})  # fmt: skip
    assert [p.chosen for p in points] == [False, True]  # nearer to plain fine-tuning
    (point,) = lambda_path(RunConfig.of("lp-ft"), [0.1, 1.0], fake)
    assert point.chosen and point.strength is None


def test_bad_paths() -> None:
    for grid in ([], [1.0, 1.0]):
        with pytest.raises(ValueError, match="must hold different numbers, at least one"):
            path_configs(RunConfig.of("fda"), grid)
    with pytest.raises(ValueError, match="strengths=-1"):
        path_configs(RunConfig.of("fda"), [-1.0])
    records = [fake(RunConfig.of("fda", seed=seed)) for seed in (0, 1)]
    with pytest.raises(ValueError, match="differ in strength alone"):
        path_points(records)
    with pytest.raises(ValueError, match="at least one"):
        path_points([])


def test_the_figure_is_the_same_bytes_for_the_same_points(tmp_path: Path) -> None:
    paths = {m: lambda_path(RunConfig.of(m), [0.5, 1.0], fake) for m in ("lp-ft", "fda", "l2sp")}
    for name in ("a", "b"):
        draw_paths(paths, tmp_path / f"{name}.svg")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_a_recipe_that_builds_it(method: str) -> None:
    made = recipe(method)
    assert made.method == method
    knob = METHODS[method].knob
    assert (knob is None) == (made.strength is None) == (not made.grid) == (not made.coarse)
    if knob is not None:
        assert len(made.grid) == 5 and made.strength in made.grid  # the same budget for all
        assert set(made.coarse) <= set(made.grid)
    plugins = METHODS[method].plugins(made.strength, "previous", 0, dict(made.options))
    assert len(plugins) == METHODS[method].probed_heads + (knob is not None)
    if knob is not None and knob != "mu":
        assert getattr(plugins[-1], knob) == made.strength


def test_there_is_no_recipe_without_a_method() -> None:
    assert {p.stem for p in (RECIPES / "concepts").glob("*.yaml")} == set(METHODS)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "method: fda\nstrenght: 1",
            "'strenght' is not a key of a recipe; did you mean 'strength'",
        ),
        ("method: ewc", "method='ewc' is unknown"),
    ],
)
def test_bad_recipes(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=words):
        read_recipe(path)
