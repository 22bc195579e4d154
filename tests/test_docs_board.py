"""The boards in ``docs``: made of the records beside them, and of nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.board.page import page
from benchmarks.board.text import markdown, rows_csv, runs_csv
from benchmarks.board.write import board_of
from benchmarks.execution.matrix import jobs_of, load_matrix
from benchmarks.results.files import collect
from benchmarks.results.scores import forgetting_first, outcome_of

DOCS = Path(__file__).parents[1] / "docs"


@pytest.mark.parametrize(
    "folder",
    [
        "board",
        "ablations",
        "concepts_more",
        "concepts_more_confirm",
        "concepts_mtil",
        "concepts_mtil_both",
        "pacs_few",
        "pacs_few_confirm",
        "real_images_few",
        "real_images_few_confirm",
        "real_images_lite0",
        "real_images_lite0_confirm",
        "real_images_lite0_few",
    ],
)
def test_it_is_what_its_records_give(folder: str) -> None:
    made = board_of(collect([DOCS / folder / "records"]))
    again = f"python -m benchmarks board docs/{folder}/records --out docs/{folder}"
    for name, text in (
        ("index.html", page(made)),
        ("board.md", markdown(made)),
        ("board.csv", rows_csv(made)),
        ("runs.csv", runs_csv(made)),
    ):
        assert (DOCS / folder / name).read_text(encoding="utf-8") == text, f"{name} is old: {again}"


@pytest.mark.parametrize(
    ("folder", "matrix", "count"),
    [
        ("board", "concepts.yaml", 130),
        ("ablations", "ablations.yaml", 42),
        ("concepts_more", "concepts_more_chosen.yaml", 140),
        ("concepts_more_confirm", "concepts_more_confirm.yaml", 80),
        ("concepts_mtil", "concepts_mtil_chosen.yaml", 190),
        ("concepts_mtil_both", "concepts_mtil_both.yaml", 190),
        ("pacs_few", "pacs_few.yaml", 95),
        ("pacs_few_confirm", "pacs_few_confirm.yaml", 70),
        ("real_images_few", "real_images_few_chosen.yaml", 125),
        ("real_images_few_confirm", "real_images_few_confirm.yaml", 80),
        ("real_images_lite0", "real_images_lite0.yaml", 45),
        ("real_images_lite0_confirm", "real_images_lite0_confirm.yaml", 24),
        ("real_images_lite0_few", "real_images_lite0_few.yaml", 90),
    ],
)
def test_it_holds_every_run_of_the_study(folder: str, matrix: str, count: int) -> None:
    found = collect([DOCS / folder / "records"])
    asked = {job.config.identity for job in jobs_of(load_matrix(matrix), Path())}
    assert len(asked) == count and not found.refused
    assert {record.run_id for record in found.records} == asked
    for record in found.records:
        assert record.status == "finished" and record.how.code.changed is False
        # Avalanche's own figure, of the same run
        own = outcome_of(record).avalanche_forgetting
        assert forgetting_first(record) == pytest.approx(own, abs=1e-6)


@pytest.mark.parametrize(("name", "count"), [("auto_share", 20), ("auto_drift", 12)])
def test_an_option_of_the_automatic_weight_has_the_records_of_its_choice(
    name: str, count: int
) -> None:
    found = collect([DOCS / name / "choice"])
    asked = {job.config.identity for job in jobs_of(load_matrix(f"{name}.yaml"), Path())}
    assert len(asked) == count and not found.refused
    assert {record.run_id for record in found.records} == asked
    assert all(r.status == "finished" and r.how.code.changed is False for r in found.records)


def test_ldifs_at_its_lambda_ran_on_another_processor_too() -> None:
    """The other runs of the same settings and seeds are on the boards of the two studies."""
    found = collect([DOCS / "auto_drift" / "other_processor"])
    assert len(found.records) == 10 and not found.refused
    for study in ("real_images_few", "pacs_few"):
        board = {r.run_id: r for r in collect([DOCS / study / "records"]).records}
        again = [record for record in found.records if record.run_id in board]
        assert sorted(record.config["seed"] for record in again) == [0, 1, 2, 3, 4]
        for record in again:
            assert (record.config["method"], record.config["strength"]) == ("ldifs", 3000)
            other = board[record.run_id].how.machine.processor
            assert record.how.machine.processor != other
