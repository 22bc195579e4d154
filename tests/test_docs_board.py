"""The board in ``docs/board``: made of the records beside it, and of nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.board.page import page
from benchmarks.board.text import markdown, rows_csv, runs_csv
from benchmarks.board.write import board_of
from benchmarks.execution.matrix import jobs_of, load_matrix
from benchmarks.results.files import collect
from benchmarks.results.scores import forgetting_first, outcome_of

DOCS = Path(__file__).parents[1] / "docs" / "board"


def test_it_is_what_its_records_give() -> None:
    made = board_of(collect([DOCS / "records"]))
    again = "python -m benchmarks board docs/board/records --out docs/board"
    for name, text in (
        ("index.html", page(made)),
        ("board.md", markdown(made)),
        ("board.csv", rows_csv(made)),
        ("runs.csv", runs_csv(made)),
    ):
        assert (DOCS / name).read_text(encoding="utf-8") == text, f"{name} is old: {again}"


WHOLE_SEEDS = (0, 1, 2, 3, 4)
"""Seeds of which every run of the study is on the board; docs/results.md names them."""


def test_it_holds_runs_of_the_study_alone() -> None:
    found = collect([DOCS / "records"])
    jobs = jobs_of(load_matrix("concepts.yaml"), Path())
    asked = {job.config.identity: job.config.seed for job in jobs}
    assert len(asked) == 130 and not found.refused
    run_ids = {record.run_id for record in found.records}
    assert run_ids <= asked.keys()
    assert {identity for identity, seed in asked.items() if seed in WHOLE_SEEDS} <= run_ids
    for record in found.records:
        assert record.status == "finished" and record.how.code.changed is False
        # Avalanche's own figure, of the same run
        own = outcome_of(record).avalanche_forgetting
        assert forgetting_first(record) == pytest.approx(own, abs=1e-6)
