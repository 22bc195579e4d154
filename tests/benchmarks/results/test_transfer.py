"""Scalars of whole matrices: by hand, by plain loops, on published matrices, and without heads."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import pytest

from benchmarks.results import matrix as of_learnt
from benchmarks.results import scores
from benchmarks.results.published_files import PUBLISHED, read_table
from benchmarks.results.transfer import (
    WHOLE,
    delta_transfer,
    mtil_avg,
    snd_degradation,
    snd_forgetting,
    transfer,
    transfer_by_set,
    untrained_transfer,
)
from tests.benchmarks.records import finished, recipe
from tests.reference import transfer as plain

NO = None
#          experience 1, 2, 3
MATRIX = [
    [0.30, 0.40, 0.50],
    [0.90, 0.30, 0.60],
    [0.80, 0.70, 0.20],
    [0.60, 0.75, 0.80],
]
PUBLISHED_MATRICES: dict[str, Any] = json.loads(
    Path(__file__).with_name("mtil_published.json").read_text(encoding="utf-8")
)
RUNS = PUBLISHED_MATRICES["runs"]


def test_by_hand() -> None:
    # set 2 is unseen in row 1, set 3 in rows 1 and 2
    assert transfer_by_set(MATRIX) == [0.3, pytest.approx(0.4)]
    assert transfer(MATRIX) == pytest.approx((0.3 + 0.4) / 2)
    assert untrained_transfer(MATRIX) == pytest.approx((0.4 + 0.5) / 2)
    assert delta_transfer(MATRIX) == pytest.approx(0.35 - 0.45)
    assert mtil_avg(MATRIX) == pytest.approx((1.8 + 1.7 + 2.15) / 9)
    # best of rows 1 and 2 minus row 3
    assert snd_forgetting(MATRIX) == pytest.approx((0.9 - 0.6 + 0.7 - 0.75) / 2)
    # row 0 minus the worst of rows 1 and 2, and of rows 1 to 3
    assert snd_degradation(MATRIX) == pytest.approx((0.4 - 0.3 + 0.5 - 0.2) / 2)
    assert len({round(formula(MATRIX) or 9, 6) for formula in WHOLE.values()}) == len(WHOLE)


def test_sources_that_can_be_read_in_two_ways() -> None:
    before = [[0.5, 0.5, 0.5], [0.6, 0.9, 0.5], [0.6, 0.7, 0.5], [0.6, 0.7, 0.5]]
    assert snd_forgetting(before) == pytest.approx(0.2 / 2)  # 0.9 is of before learning
    assert of_learnt.forgetting_best(before) == 0
    end = [[0.5, 0.5], [0.6, 0.5], [0.7, 0.4]]
    assert snd_forgetting(end) == pytest.approx(-0.1)  # the end is no candidate for the best
    assert snd_degradation(end) == pytest.approx(0.1)  # learning made its own set worse


@pytest.mark.parametrize("size", [2, 3, 7])
def test_the_reference_says_the_same(size: int) -> None:
    lot = random.Random(size)
    for _ in range(20):
        made = [[lot.random() for _ in range(size)] for _ in range(size + 1)]
        expected = {
            "transfer": plain.transfer(made),
            "delta_transfer": plain.transfer(made) - plain.untrained(made),
            "mtil_avg": plain.mtil_avg(made),
            "snd_forgetting": plain.snd_forgetting(made),
            "snd_degradation": plain.snd_degradation(made),
        }
        assert {name: f(made) for name, f in WHOLE.items()} == pytest.approx(expected, abs=1e-12)


# ---- the published matrices of MTIL ---------------------------------------------------------


def whole(run: dict[str, Any]) -> list[list[float]]:
    """The matrix of a published run as shares of 1, with the zero-shot figures as row 0."""
    zero_shot = PUBLISHED_MATRICES["zero_shot"]
    first = [zero_shot[name] for name in PUBLISHED_MATRICES["orders"][run["order"]]]
    return [[value / 100 for value in row] for row in [first, *run["accuracy"]]]


def printed(share: float | None) -> float:
    """A share in percent with one digit after the point, halves up."""
    assert share is not None
    exact = Decimal(repr(round(100 * share, 9)))
    return float(exact.quantize(Decimal("0.1"), rounding=ROUND_HALF_UP))


@pytest.mark.parametrize("run", RUNS, ids=lambda run: f"{run['order']}-{run['method']}")
def test_a_published_matrix_gives_its_printed_figures(run: dict[str, Any]) -> None:
    matrix = whole(run)
    assert len(matrix) == 12
    assert printed(transfer(matrix)) == run["transfer"]
    assert printed(mtil_avg(matrix)) == run["avg"]
    assert printed(of_learnt.last(matrix)) == run["last"]
    change, unseen = delta_transfer(matrix), {"I": 0.6939, "II": 0.6535}[run["order"]]
    assert untrained_transfer(matrix) == pytest.approx(unseen)
    assert change == pytest.approx(run["transfer"] / 100 - unseen, abs=6e-4)
    assert change is not None and change < 0


def test_the_zero_shot_row_is_the_transfer_of_a_model_that_is_never_trained() -> None:
    zero_shot = PUBLISHED_MATRICES["zero_shot_printed"]
    rows = [whole({"order": zero_shot["order"], "accuracy": []})[0]] * 12
    assert printed(transfer(rows)) == printed(untrained_transfer(rows)) == zero_shot["transfer"]
    assert printed(mtil_avg(rows)) == zero_shot["avg"]
    assert printed(of_learnt.last(rows)) == zero_shot["last"]
    assert delta_transfer(rows) == snd_forgetting(rows) == snd_degradation(rows) == 0


def test_the_published_table_holds_the_figures_of_the_matrices() -> None:
    table = read_table(PUBLISHED / "zheng2023_mtil.yaml")
    rows = [*RUNS, {**PUBLISHED_MATRICES["zero_shot_printed"], "method": "zero-shot"}]
    held = {}
    for row in table.rows:
        for method, figures in row.figures.items():
            held[row.stream, method] = {key: figure.value for key, figure in figures.items()}
    assert len(rows) == 15 and held == {
        (f"order {row['order']}", row["method"]): {k: row[k] for k in ("transfer", "avg", "last")}
        for row in rows
    }


# ---- entries that are missing, and bad ones -------------------------------------------------


@pytest.mark.parametrize("name", WHOLE)
def test_an_entry_that_is_missing(name: str) -> None:
    """An entry above the diagonal is needed by all, and row 0 by the changes since then."""
    since = name in ("delta_transfer", "snd_degradation")
    for t, j in ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)):  # columns count from 0
        holed: list[list[float | None]] = [list(row) for row in MATRIX]
        holed[t][j] = NO
        needed = t > 0 or (since and j > 0)
        assert WHOLE[name](holed) == (None if needed else WHOLE[name](MATRIX)), (t, j)


def test_a_growing_head_and_a_single_experience_have_none() -> None:
    growing = [[NO, NO, NO], [0.9, NO, NO], [0.8, 0.7, NO], [0.6, 0.75, 0.8]]
    for matrix in (growing, [[0.3], [0.9]]):
        assert [formula(matrix) for formula in WHOLE.values()] == [None] * len(WHOLE)
    assert transfer_by_set(growing) is None


@pytest.mark.parametrize(
    ("matrix", "words"),
    [
        ([[0.5]], "expected T . 1 rows of T"),
        ([[0.1, 0.1], [None, 0.1], [0.5, 0.5]], "accuracy None on experience 1 after experience 1"),
        (
            [[0.1, 0.1], [0.5, 71.0], [0.5, 0.5]],
            r"accuracy 71.0 on experience 2 after experience 1",
        ),
        (
            [[0.1, -0.1], [0.5, 0.5], [0.5, 0.5]],
            r"accuracy -0.1 on experience 2 after experience 0",
        ),
        ([[0.1, float("nan")], [0.5, 0.5], [0.5, 0.5]], "accuracy nan .* must lie in"),
    ],
)
@pytest.mark.parametrize("name", WHOLE)
def test_bad_matrices(name: str, matrix: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        WHOLE[name](matrix)


def test_scores_of_a_record() -> None:
    made = finished(recipe("lp-ft"), tuple(map(tuple, MATRIX)))
    for name, formula in WHOLE.items():
        assert scores.SCORES[name](made) == formula(MATRIX) is not None, name
    assert made.stream is not None
    counts = replace(made.stream, weighted_by="image", test=(100, 100, 900))
    by_image = replace(made, stream=counts)
    assert scores.transfer(by_image) == transfer(MATRIX)  # never weighted
    growing = scores.scores_of(finished(recipe("lp-ft")))
    assert {name: growing[name] for name in WHOLE} == dict.fromkeys(WHOLE)
