"""Paths over strengths, and which of them validation data choose."""

from __future__ import annotations

import pytest

from benchmarks.config import Config, path_configs
from benchmarks.execution.path import lambda_path
from benchmarks.results.record import Record
from tests.benchmarks.records import finished, recipe


def fake(config: Config) -> Record:
    """A record in which validation and test disagree about the best strength."""
    strength = config.strength or 0.0
    matrix = ((None, None), (0.7, None), (0.6, 0.6 + strength / 50))
    return finished(config, matrix, validation=(0.7 - abs(strength - 1) / 4, 0.0))


def test_a_path_has_a_row_a_strength_and_validation_chooses() -> None:
    rows = lambda_path(recipe("fda"), [3.0, 0.5, 1.0], fake)
    assert [r.strength for r in rows] == [0.5, 1.0, 3.0]
    assert [r.chosen for r in rows] == [False, True, False]  # the test's best is 3
    chosen = rows[1]
    assert chosen.mean("last") == pytest.approx(0.61)
    assert chosen.mean("delta_lp") == pytest.approx(-0.02)
    assert chosen.mean("score") == pytest.approx(0.7) and chosen.method == "fda"


def test_a_tie_takes_the_weaker_and_plain_fine_tuning_is_a_point() -> None:
    rows = lambda_path(recipe("l2sp"), [1.5, 0.5], fake)
    assert [r.chosen for r in rows] == [True, False]
    rows = lambda_path(recipe("wise-ft"), [0.5, 0.9], lambda c: finished(c))
    assert [r.chosen for r in rows] == [False, True]  # nearer to plain fine-tuning
    (row,) = lambda_path(recipe("lp-ft"), [0.1, 1.0], fake)
    assert row.chosen and row.strength is None


def test_without_validation_data_nothing_is_chosen() -> None:
    rows = lambda_path(recipe("fda"), [0.5, 1.0], lambda c: finished(c, validation=None))
    assert not any(row.chosen for row in rows)


def test_bad_paths() -> None:
    for grid in ([], [1.0, 1.0]):
        with pytest.raises(ValueError, match="must hold different numbers, at least one"):
            path_configs(recipe("fda"), grid)
    with pytest.raises(ValueError, match="strengths=-1"):
        path_configs(recipe("fda"), [-1.0])
    for strength in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="must be finite and not negative"):
            path_configs(recipe("fda"), [strength])
    with pytest.raises(TypeError, match="strengths=True must be a number"):
        path_configs(recipe("fda"), [True])
