"""Advice on a choice: what the validation data of the runs cannot support is said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from benchmarks.board.advice import advice, validation_image
from benchmarks.results.record import Record
from benchmarks.results.settings import rows_of
from tests.benchmarks.records import finished, recipe

IMAGE = 1 / (2 * 250)
"""One of 250 validation images in each of two experiences."""


def run(method: str, strength: float | None = None, score: float = 0.7, **changes: Any) -> Record:
    seed, options = changes.pop("seed", 0), changes.pop("options", {})
    given: dict[str, Any] = {} if strength is None else {"strength": strength}
    config = replace(recipe(method, **given), seed=seed, options=options)
    return finished(config, validation=(score, 0.0), **changes)


def path(method: str, scores: Mapping[float, float], **changes: Any) -> list[str]:
    return advice(rows_of([run(method, x, score, **changes) for x, score in scores.items()]))


def test_a_best_strength_inside_the_grid_needs_no_advice() -> None:
    assert path("ldifs", {100: 0.6, 300: 0.7, 1000: 0.65}) == []


@pytest.mark.parametrize(
    ("scores", "words"),
    [
        ({100: 0.7, 300: 0.6}, "ldifs: 100 is the weakest strength tried. A weaker one may be"),
        ({100: 0.6, 300: 0.7}, "ldifs: 300 is the strongest strength tried. A stronger one may be"),
    ],
)
def test_the_edge_of_a_grid_is_said(scores: dict[float, float], words: str) -> None:
    (line,) = path("ldifs", scores)
    assert line.startswith(words) and line.endswith(
        "add it to --strengths; finished runs are kept."
    )


def test_strengths_within_one_image_are_named_and_the_weakest_is_taken() -> None:
    scores = {100: 0.6, 300: 0.7, 1000: 0.7 + 0.9 * IMAGE, 3000: 0.5}
    assert path("ldifs", scores) == [
        "ldifs: the validation scores of 300, 1000 differ by less than one image (0.2 points), so "
        "take the weakest of them, 300."
    ]
    assert path("ldifs", scores | {1000: 0.7 + 1.1 * IMAGE}) == []


@pytest.mark.parametrize("best", [0.1, 1, 10])
def test_strengths_that_all_lie_within_one_image_cannot_be_chosen_from(best: float) -> None:
    scores = {x: 0.7 + 0.9 * IMAGE * (x == best) for x in (0.1, 0.3, 1, 3, 10)}
    assert path("ldifs", scores) == [
        "ldifs: the validation scores of 0.1, 0.3, 1, 3, 10 differ by less than one image (0.2 "
        "points), so these validation data cannot choose a strength. Keep the weakest, 0.1. More "
        "validation images, more seeds or longer training may tell the strengths apart."
    ]
    (line,) = path("ldifs", scores | {0.03: 0.7})  # a weaker one brings no other advice
    assert "cannot choose a strength. Keep the weakest, 0.03." in line
    lines = path("ldifs", scores | {0.1: 0.7, 30: 0.7 - 1.1 * IMAGE})
    assert not any("cannot choose" in line for line in lines)


def test_a_larger_alpha_of_wise_ft_is_weaker() -> None:
    near = {0.2: 0.7, 0.5: 0.7 + 0.5 * IMAGE, 0.8: 0.6, 0.1: 0.6}
    (line,) = path("wise-ft", near)
    assert line.endswith("so take the weakest of them, 0.5.")
    (line,) = path("wise-ft", {0.2: 0.6, 0.8: 0.7})
    assert "0.8 is the weakest strength tried" in line


def test_several_seeds_make_one_image_smaller() -> None:
    records = [
        run("ldifs", x, score, seed=seed)
        for seed in (0, 1)
        for x, score in {100: 0.5, 300: 0.7, 1000: 0.7 + 0.6 * IMAGE, 3000: 0.5}.items()
    ]
    assert advice(rows_of(records)) == []
    assert len(advice(rows_of(records[:4]))) == 1


def test_settings_that_differ_in_an_option_are_paths_of_their_own() -> None:
    records = [
        run("fda", x, score, options=options)
        for options, best in (({}, 1.0), ({"start": "siglip"}, 3.0))
        for x, score in {0.3: 0.5, 1.0: 0.6, 3.0: 0.55, best: 0.7}.items()
    ]
    (line,) = advice(rows_of(records))
    assert line.startswith("fda: 3 is the strongest strength tried.")


def both(own: float, beside: Any, score: float) -> Record:
    """A run of soft-fda with ldifs beside it."""
    config = replace(recipe("soft-fda", strength=own), companions={"ldifs": beside})
    return finished(config, validation=(score, 0.0))


def chosen(records: list[Record]) -> str:
    (row,) = (row for row in rows_of(records) if row.chosen)
    return row.strength_text


def test_strengths_of_a_companion_are_a_path() -> None:
    inside = [both(1, x, score) for x, score in ((100.0, 0.6), (300.0, 0.72), (1000.0, 0.65))]
    assert advice(rows_of(inside)) == [] and chosen(inside) == "1 + 300"
    edge = [both(1, x, score) for x, score in ((100.0, 0.6), (300.0, 0.65), (1000.0, 0.72))]
    assert advice(rows_of(edge)) == [
        "soft-fda + ldifs: in 1 + 1000, the strength 1000 of ldifs is the strongest tried. A "
        "stronger one may be better: run it with --set companions.ldifs=…; finished runs are kept."
    ]


def test_the_weaker_companion_wins_a_tie() -> None:
    tie = [both(1, 300.0, 0.72), both(1, 1000.0, 0.72), both(1, 100.0, 0.6)]
    assert chosen(tie) == "1 + 300" and chosen(tie[::-1]) == "1 + 300"
    (line,) = advice(rows_of(tie))
    assert line.endswith("so take the weakest of them, 1 + 300.")
    with_auto = [*tie, both(1, "auto", 0.72)]
    assert chosen(with_auto) == "1 + 300"
    assert [row.strength_text for row in rows_of(with_auto)] == [
        "1 + 100",
        "1 + 300",
        "1 + 1000",
        "1 + auto",
    ]
    assert advice(rows_of(with_auto)) == [line]  # auto is no strength of a grid


def test_strengths_that_rise_together_are_one_path() -> None:
    given = ((1, 100.0), (3, 300.0), (10, 1000.0))
    inside = [both(*x, score) for x, score in zip(given, (0.6, 0.7, 0.65), strict=True)]
    assert advice(rows_of(inside)) == []
    edge = [both(*x, score) for x, score in zip(given, (0.7, 0.65, 0.6), strict=True)]
    assert advice(rows_of(edge)) == [
        "soft-fda + ldifs: 1 + 100 are the weakest strengths tried. Weaker ones may be better: "
        "change all of them together, with --strengths and --set companions.ldifs=…; finished "
        "runs are kept."
    ]


def test_each_strength_of_a_grid_of_two_has_its_own_edge() -> None:
    grid = {(1, 100.0): 0.6, (1, 300.0): 0.62, (3, 100.0): 0.65, (3, 300.0): 0.7, (10, 300.0): 0.66}
    (line,) = advice(rows_of([both(*x, score) for x, score in grid.items()]))
    assert line.startswith("soft-fda + ldifs: in 3 + 300, the strength 300 of ldifs is the strong")
    (line,) = advice(rows_of([both(*x, score) for x, score in (grid | {(10, 300.0): 0.8}).items()]))
    assert line.startswith("soft-fda + ldifs: in 10 + 300, the strength 10 of soft-fda is the str")
    assert "add it to --strengths" in line


def test_no_sentence_where_neither_setting_is_the_weaker() -> None:
    assert advice(rows_of([both(1, 300.0, 0.7), both(3, 100.0, 0.7), both(1, 100.0, 0.6)])) == []
    # 3 is the weakest of its line, and 1 was tried too
    records = [both(1, 100.0, 0.6), both(3, 300.0, 0.7), both(10, 300.0, 0.65)]
    assert advice(rows_of(records)) == []


def test_strengths_are_compared_on_the_seeds_that_all_have() -> None:
    scores = {
        0: {100: 0.6, 300: 0.7, 1000: 0.69, 3000: 0.68},
        1: {100: 0.5, 300: 0.6, 1000: 0.59},
    }
    records = [run("ldifs", x, s, seed=k) for k in scores for x, s in scores[k].items()]
    assert advice(rows_of(records)) == [] and chosen(records) == "300"
    apart = [run("ldifs", 100, 0.6, seed=0), run("ldifs", 300, 0.7, seed=1)]
    assert advice(rows_of(apart)) == []


def test_equal_scores_choose_nothing() -> None:
    (line,) = path("ldifs", {100: 0.7, 300: 0.7, 1000: 0.7})
    assert line.startswith("ldifs: all strengths have equal validation scores")


def learnt(method: str, score: float, *values: float, seed: int = 0) -> Record:
    """A run with these validation accuracies right after learning; test accuracies are others."""
    matrix = [[0.5, 0.5], [len(method) / 20, 0.5], [0.4, 0.7]]
    record = run(method, None, score, matrix=matrix, seed=seed)
    assert record.outcome is not None
    return replace(record, outcome=replace(record.outcome, validation_learnt=values))


def test_training_that_changed_nothing_is_said_by_validation_data_alone() -> None:
    frozen = learnt("frozen", 0.6, 0.8, 0.7)
    hardly = learnt("lp-ft", 0.7, 0.8 + IMAGE, 0.7)  # half an image in the mean
    (line,) = advice(rows_of([frozen, hardly]))
    assert line.startswith("Training changed little:") and "Raise train.lr" in line
    assert advice(rows_of([frozen, learnt("lp-ft", 0.7, 0.8 + 3 * IMAGE, 0.7)])) == []
    assert advice(rows_of([frozen, hardly, learnt("ldifs", 0.7, 0.9, 0.7)])) == []


def test_frozen_ahead_of_all_others_is_said() -> None:
    frozen, plain = learnt("frozen", 0.7, 0.8, 0.7), learnt("lp-ft", 0.69, 0.9, 0.8)
    (line,) = advice(rows_of([frozen, plain]))
    assert line.startswith("frozen, which trains the heads alone, has the best validation score")
    assert advice(rows_of([plain])) == []
    other = learnt("lp-ft", 0.8, 0.9, 0.8, seed=1)
    assert advice(rows_of([frozen, plain, other])) == [line]  # frozen has no run of seed 1
    assert advice(rows_of([frozen, other])) == []
    assert advice(rows_of([frozen, learnt("lp-ft", 0.71, 0.9, 0.8)])) == []


@pytest.mark.parametrize("apart", [0.0, 1e-12, -1e-12])  # rounding
def test_a_tie_of_frozen_is_said_as_a_tie(apart: float) -> None:
    tied = [learnt("frozen", 0.7, 0.8, 0.7), learnt("lp-ft", 0.7 + apart, 0.9, 0.8)]
    words = "No row has a better validation score than frozen, which trains the heads alone, and "
    end = " the same score: here training more than the heads gained nothing."
    assert advice(rows_of(tied)) == [f"{words}lp-ft has{end}"]
    worse = learnt("l2sp", 0.6, 0.9, 0.8)
    assert advice(rows_of([*tied, worse])) == [f"{words}lp-ft has{end}"]
    assert advice(rows_of([*tied, worse, learnt("wise-ft", 0.7, 0.9, 0.8)])) == [
        f"{words}2 rows have{end}"
    ]
    assert advice(rows_of([*tied, learnt("wise-ft", 0.71, 0.9, 0.8)])) == []


def test_without_validation_data_there_is_no_advice() -> None:
    records = [finished(recipe(method), validation=None) for method in ("frozen", "lp-ft")]
    assert advice(rows_of(records)) == []


def test_one_image_of_the_validation_data() -> None:
    record = run("ldifs", 100)
    assert validation_image(record) == IMAGE
    assert record.stream is not None and record.panel is not None
    uneven = replace(record, stream=replace(record.stream, validation=(10, 90)))
    assert validation_image(uneven) == 1 / 20
    by_image = replace(
        record, stream=replace(record.stream, validation=(10, 90), weighted_by="image")
    )
    assert validation_image(by_image) == 1 / 100
    panel = {name: replace(data, validation=5) for name, data in record.panel.items()}
    assert validation_image(replace(record, panel=panel)) == 1 / (len(panel) * 5)
    assert validation_image(finished(recipe("ldifs"), validation=None)) is None
