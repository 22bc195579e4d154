"""Paths over strengths, and the recipes that name them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.config import Config, plain
from benchmarks.figure import draw_paths
from benchmarks.path import lambda_path, path_configs, path_points
from benchmarks.recipe_files import RECIPES, load_recipe


def recipe(method: str, **settings: Any) -> Config:
    return load_recipe(RECIPES / "concepts" / f"{method}.yaml", settings).config


def fake(config: Config) -> dict[str, Any]:
    """A record in which validation and test disagree about the best strength."""
    strength = config.strength or 0.0
    return {
        "config": plain(config),
        "test": {
            "stream_accuracy": 0.6 + strength / 100, "delta_lp": -0.02,
            "forgetting_avalanche": 0.1,
        },
        "validation": {
            "stream_accuracy": 0.7 - abs(strength - 1), "delta_lp": -abs(strength - 1) / 2,
        },
    }  # fmt: skip


def test_a_path_has_a_point_a_strength_and_validation_chooses() -> None:
    points = lambda_path(recipe("fda"), [3.0, 0.5, 1.0], fake)
    assert [p.strength for p in points] == [0.5, 1.0, 3.0]
    assert [p.chosen for p in points] == [False, True, False]  # the test's best is 3
    chosen = points[1]
    assert (chosen.stream_accuracy, chosen.delta_lp) == (pytest.approx(0.61), -0.02)
    assert chosen.score == pytest.approx(0.7) and chosen.record["config"]["method"] == "fda"


def test_a_tie_takes_the_weaker_and_plain_fine_tuning_is_a_point() -> None:
    points = lambda_path(recipe("l2sp"), [1.5, 0.5], fake)
    assert [p.chosen for p in points] == [True, False]
    points = lambda_path(recipe("wise-ft"), [0.5, 0.9], lambda c: {**fake(c), "validation": {
        "stream_accuracy": 0.7, "delta_lp": 0.0}})  # fmt: skip
    assert [p.chosen for p in points] == [False, True]  # nearer to plain fine-tuning
    (point,) = lambda_path(recipe("lp-ft"), [0.1, 1.0], fake)
    assert point.chosen and point.strength is None


def test_bad_paths() -> None:
    for grid in ([], [1.0, 1.0]):
        with pytest.raises(ValueError, match="must hold different numbers, at least one"):
            path_configs(recipe("fda"), grid)
    with pytest.raises(ValueError, match="strengths=-1"):
        path_configs(recipe("fda"), [-1.0])
    records = [fake(recipe("fda", seed=seed)) for seed in (0, 1)]
    with pytest.raises(ValueError, match="differ in strength alone"):
        path_points(records)
    with pytest.raises(ValueError, match="at least one"):
        path_points([])


def test_the_figure_is_the_same_bytes_for_the_same_points(tmp_path: Path) -> None:
    paths = {m: lambda_path(recipe(m), [0.5, 1.0], fake) for m in ("lp-ft", "fda", "l2sp")}
    for name in ("a", "b"):
        draw_paths(paths, tmp_path / f"{name}.svg")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert len(list(tmp_path.iterdir())) == 2
