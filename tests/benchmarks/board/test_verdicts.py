"""Differences without an interval, and rows that were trained otherwise."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest

from benchmarks.board.columns import COLUMN
from benchmarks.board.page import page
from benchmarks.board.text import markdown, rows_csv
from benchmarks.board.words import difference, findings, verdict
from benchmarks.results.record import Record
from tests.benchmarks.board.board_records import board, entries, now
from tests.benchmarks.records import finished, recipe


def two_seeds(method: str, last: float, strength: float | None = None) -> list[Record]:
    """Runs of two seeds; each seed moves every method by the same amount."""
    return [
        now(
            finished(
                recipe(method, strength=strength, seed=seed),
                ((None, None), (0.9, None), (0.7 + 0.1 * seed, last + 0.1 * seed)),
            )
        )
        for seed in (0, 1)
    ]


def test_the_same_difference_in_every_seed_has_no_verdict(tmp_path: Path) -> None:
    """The differences have no spread, and so no interval."""
    made = board([*two_seeds("lp-ft", 0.6), *two_seeds("rkd", 0.61, 1.0)], tmp_path)
    entry = entries(made)["rkd 1"]
    found = entry.differences["last"]
    assert found is not None and len(found.values) == 2
    assert verdict(found, COLUMN["last"]) == "" and difference(found, "percent") == "+0.5"
    (line,) = (text for method, text in findings(made.comparisons[0]) if method == "rkd")
    assert "equal in every seed, so without an interval: Last +0.5" in line
    assert "better" not in line and "by chance" not in line
    assert "Δ_LP 0.0 ± 0.0" in line  # the same numbers as plain fine-tuning
    text = page(made)
    assert "▲</span>" not in text
    assert ">·</span> +0.5" in text and "the same in every seed, which allows none" in text
    table = [row for row in markdown(made).splitlines() if row.startswith("| **rkd")]
    assert len(table) == 1 and "▲" not in table[0]
    head, *lines = csv.reader(io.StringIO(rows_csv(made)))
    place = head.index("method")
    cells = next(dict(zip(head, line, strict=True)) for line in lines if line[place] == "rkd")
    assert float(cells["last_vs_plain"]) == pytest.approx(0.005)
    assert cells["last_vs_plain_half"] == ""


def test_a_page_without_such_a_difference_does_not_explain_it(tmp_path: Path) -> None:
    assert "the same in every seed" not in page(board(two_seeds("lp-ft", 0.6), tmp_path))


def trained(method: str, strength: float, **settings: Any) -> list[Record]:
    return [
        now(finished(recipe(method, strength=strength, seed=seed, **settings))) for seed in (0, 1)
    ]


def test_without_plain_fine_tuning_another_training_is_marked(tmp_path: Path) -> None:
    """Otherwise 3 and 3000 steps would stand side by side without a word."""
    runs = [*trained("fda", 1.0, train__steps=3), *trained("rkd", 1.0, train__steps=3000)]
    made = board(runs, tmp_path / "two")
    marks = {label: entry.marks for label, entry in entries(made).items()}
    assert [(mark.word, mark.about) for mark in marks["fda 1"]] == [
        ("trained otherwise", "Than other rows here: train.steps=3 in place of 3000.")
    ]
    assert marks["rkd 1"][0].about == "Than other rows here: train.steps=3000 in place of 3."
    assert "training or head than most rows of the table" in markdown(made)
    assert "in what else it differs from most rows of the table." in page(made)
    made = board([*runs, *trained("l2sp", 1.0, train__steps=3000)], tmp_path / "three")
    marks = {label: entry.marks for label, entry in entries(made).items()}
    assert [mark.word for mark in marks["fda 1"]] == ["trained otherwise"]
    assert marks["rkd 1"] == marks["l2sp 1"] == ()  # as most rows
    made = board([*runs, *trained("fda", 3.0, train__steps=3)], tmp_path / "path")
    assert entries(made)["rkd 1"].marks[0].about.endswith("train.steps=3000 in place of 3.")
    variants = [*trained("fda", 1.0, train__steps=3), *trained("fda", 1.0, train__steps=5)]
    (comparison,) = board(variants, tmp_path / "variants").comparisons
    assert [entry.marks for entry in comparison.entries] == [(), ()]  # their names have the key
    assert {entry.distinct["train.steps"] for entry in comparison.entries} == {"3", "5"}
