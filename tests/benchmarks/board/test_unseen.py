"""Boards and tables with whole accuracy matrices: columns, data sets, and files without them."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.board.page import page
from benchmarks.board.table import table
from benchmarks.board.text import markdown, rows_csv, runs_csv
from benchmarks.board.unseen import ABOUT, TITLE, unseen_lines, unseen_markdown
from benchmarks.results.record import Record
from benchmarks.results.scores import OPTIONAL
from benchmarks.results.settings import Row, rows_of
from tests.benchmarks.board.board_records import HOSTILE, board, now
from tests.benchmarks.records import failed, finished, recipe

BEFORE = (0.3, 0.4, 0.5)
MATRIX = (BEFORE, (0.9, 0.3, 0.6), (0.8, 0.7, 0.2), (0.6, 0.75, 0.8))
OTHER = (BEFORE, (0.9, 0.4, 0.6), (0.9, 0.8, 0.4), (0.9, 0.75, 0.8))
GROWING = ((None,) * 3, (0.9, None, None), (0.8, 0.7, None), (0.6, 0.75, 0.8))


def runs(matrix: tuple[tuple[float | None, ...], ...] = MATRIX) -> list[Record]:
    """Two seeds of plain fine-tuning with ``matrix`` and of another method."""
    kind = {"head__kind": "zero-shot"}
    own = [now(finished(recipe("finetune", seed=s, **kind), matrix)) for s in range(2)]
    other = OTHER if matrix is MATRIX else matrix
    return own + [
        now(finished(recipe("l2sp", strength=1.0, seed=s, **kind), other)) for s in range(2)
    ]


def named(records: list[Record]) -> list[tuple[str, Row]]:
    return [(row.label, row) for row in rows_of(records)]


def _sets(text: str) -> str:
    """The table of data sets within a board."""
    return text.partition(TITLE)[2].partition(ABOUT[:20])[0]


def test_each_data_set_has_its_transfer_and_its_last() -> None:
    assert unseen_lines(named(runs())) == [
        ["", "", "set0", "set1", "set2"],
        ["before training", "accuracy", "–", "40.0", "50.0"],
        ["finetune", "Transfer", "–", "30.0", "40.0"],
        ["finetune", "Last", "60.0", "75.0", "80.0"],
        ["l2sp 1", "Transfer", "–", "40.0", "50.0"],
        ["l2sp 1", "Last", "90.0", "75.0", "80.0"],
    ]


def test_seeds_are_averaged_and_each_method_has_its_own_start() -> None:
    first, second, *others = runs()
    assert first.outcome is not None
    outcome = replace(first.outcome, accuracy=((0.3, 0.2, 0.1), *OTHER[1:]))
    lines = unseen_lines(named([replace(first, outcome=outcome), second, *others]))
    assert lines[1:3] == [
        ["finetune, before training", "accuracy", "–", "30.0", "30.0"],
        ["l2sp 1, before training", "accuracy", "–", "40.0", "50.0"],
    ]
    assert lines[3] == ["finetune", "Transfer", "–", "35.0", "45.0"]


def test_without_a_whole_matrix_nothing_is_said() -> None:
    assert unseen_lines(named(runs(GROWING))) == []
    assert unseen_lines(named([failed(recipe("finetune"))])) == unseen_markdown([]) == []
    without = ((None,) * 3, *MATRIX[1:])
    assert [line[1] for line in unseen_lines(named(runs(without)))[1:]] == ["Transfer", "Last"] * 2


def test_a_board_shows_them_and_one_without_them_stays_as_it_was(tmp_path: Path) -> None:
    head = {"head__kind": "zero-shot"}
    weaker = [  # a strength that validation data did not choose has no lines of data sets
        now(finished(recipe("l2sp", strength=3.0, seed=s, **head), OTHER, validation=(0.1, -0.1)))
        for s in range(2)
    ]
    made = board(runs() + weaker, tmp_path / "whole")
    text, html = markdown(made), page(made)
    for part in (text, html):
        named = re.findall(r"(?:^\| |<th scope=.row.>)(l2sp\b[^|<]*)", _sets(part), re.MULTILINE)
        assert len(named) == 2 and len(set(named)) == 1, named  # its Transfer and its Last
    assert "| Transfer (%) | ΔTransfer (points) | MTIL Avg (%) | SND forgetting (points) |" in text
    assert f"### {TITLE}" in text and f">{TITLE}</h3>" in html
    assert "| before training | accuracy | – | 40.0 | 50.0 |" in text
    assert '<tr><th scope="row">before training</th><td>accuracy</td><td>–</td><td>40.0' in html
    lines = list(csv.DictReader(io.StringIO(rows_csv(made))))
    assert {line["method"]: float(line["transfer"]) for line in lines} == pytest.approx(
        {"finetune": 0.35, "l2sp": 0.45}
    )
    assert float(lines[-1]["transfer_vs_plain"]) == pytest.approx(0.1)
    assert float(next(csv.DictReader(io.StringIO(runs_csv(made))))["delta_transfer"]) == (
        pytest.approx(-0.1)
    )

    made = board(runs(GROWING), tmp_path / "growing")
    for words in (markdown(made), page(made)):
        assert "Transfer" not in words and TITLE not in words
    for text in (rows_csv(made), runs_csv(made)):
        assert not any(name in text.splitlines()[0] for name in OPTIONAL)


def test_hostile_names_are_text(tmp_path: Path) -> None:
    records = []
    for record in runs():
        assert record.stream is not None
        stream = replace(record.stream, experiences=(HOSTILE, "b|c", "d"))
        records.append(replace(record, stream=stream))
    made = board(records, tmp_path)
    assert "<script>document" not in page(made) and "<script>" not in markdown(made)
    assert "| b\\|c |" in markdown(made)
    assert unseen_markdown(named(records), escaped=False)[0] == f"|  |  | {HOSTILE} | b|c | d |"


def test_the_table_of_a_run() -> None:
    head, _, untrained, plain, *_ = table(rows_of(runs())).splitlines()[1:]
    at = [cell.strip() for cell in head.split("|")].index("Transfer")
    assert [cell.strip() for cell in head.split("|")][at : at + 3] == [
        "Transfer",
        "ΔTransfer",
        "MTIL Avg",
    ]
    assert [cell.strip() for cell in untrained.split("|")][at : at + 3] == ["45.0", "", ""]
    assert [cell.strip() for cell in plain.split("|")][at : at + 3] == ["35.0", "-10.0", "62.8"]
    assert "Transfer" not in table(rows_of(runs(GROWING)))
