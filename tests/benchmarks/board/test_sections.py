"""Sections of the board: which there are, what they are called, how many images they are of."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.board.counts import image_counts, one_image
from benchmarks.board.model import Board
from benchmarks.board.page import page
from benchmarks.board.text import markdown, rows_csv, runs_csv
from benchmarks.results.record import Record
from tests.benchmarks.board.board_records import board, run_of
from tests.benchmarks.records import failed, recipe


def plain_run(**settings: object) -> Record:
    return run_of(recipe("lp-ft", **settings), 0.66, -0.035)


def lines(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def headings(made: Board) -> tuple[list[str], list[str]]:
    """Headings of the sections in Markdown and on the page."""
    tags = re.findall(r'<h2 id="h\d+">(.*?)</h2>', page(made))
    return re.findall(r"^## (.*)$", markdown(made), re.MULTILINE), tags


def test_a_first_failed_try_leaves_no_section(tmp_path: Path) -> None:
    """A folder that was misspelt at first."""
    typo = failed(recipe("lp-ft", panel__train=50), "FileNotFoundError: no folder is there")
    made = board([plain_run(), typo], tmp_path)
    assert len(made.comparisons) == 1 and made.failed == (typo,)
    for text in (page(made), markdown(made)):
        assert "FileNotFoundError: no folder is there" in text and "panel.train" not in text
    assert [row["seeds"] for row in lines(rows_csv(made))] == ["1"]
    runs = {row["run_id"]: row["status"] for row in lines(runs_csv(made))}
    assert runs == {typo.run_id: "failed", plain_run().run_id: "finished"}


def test_a_failed_run_stays_a_row_of_its_section(tmp_path: Path) -> None:
    made = board([plain_run(), failed(recipe("fda", strength=1.0))], tmp_path)
    (comparison,) = made.comparisons
    assert [entry.row.label for entry in comparison.entries] == ["lp-ft", "fda 1"]
    assert len(lines(runs_csv(made))) == 2


def test_no_two_headings_are_the_same(tmp_path: Path) -> None:
    records = [plain_run(), plain_run(panel__train=50), plain_run(panel__train=60, panel__test=9)]
    made = board(records, tmp_path)
    in_markdown, on_page = headings(made)
    assert len(in_markdown) == len(set(in_markdown)) == len(set(on_page)) == 3
    assert any(title.endswith("panel.test=null, panel.train=50") for title in in_markdown)
    assert sum("panel.train=50" in title for title in on_page) == 1
    (one,) = board([plain_run()], tmp_path / "one").comparisons
    assert one.title == "concepts on tiny-clip"


def with_images(test: tuple[int, ...], panel: int) -> Record:
    record = plain_run()
    assert record.stream is not None
    sets = {name: replace(data, test=panel) for name, data in (record.panel or {}).items()}
    return replace(record, stream=replace(record.stream, test=test), panel=sets)


@pytest.mark.parametrize(
    ("test", "panel", "words"),
    [
        (
            (35, 400),
            100,
            "35 to 400 a data set of the stream, 100 a data set of the panel; "
            "one image is up to 2.9 points",
        ),
        (
            (400, 400),
            400,
            "400 a data set of the stream, 400 a data set of the panel; one image is 0.25 points",
        ),
    ],
)
def test_the_number_of_test_images_is_shown(
    tmp_path: Path, test: tuple[int, int], panel: int, words: str
) -> None:
    made = board([with_images(test, panel)], tmp_path)
    assert image_counts(made.comparisons[0]) == words
    assert f"Test images: {words}." in markdown(made)
    assert f"<dt>Test images</dt><dd>{words}</dd>" in page(made)
    (row,), (run,) = lines(rows_csv(made)), lines(runs_csv(made))
    assert row["test_images"] == run["test_images"] == str(sum(test))
    assert row["smallest_test_set"] == str(min(*test, panel))
    assert one_image((35,)) == "2.9"
