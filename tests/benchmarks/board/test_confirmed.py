"""Confirmed seeds on the board, and costs of several machines."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.board.confirmed import confirmed_run
from benchmarks.board.model import Board, make_board
from benchmarks.board.page import page
from benchmarks.board.table import table
from benchmarks.board.text import markdown, rows_csv, runs_csv
from benchmarks.board.write import current_versions
from benchmarks.results.files import collect, write_record
from benchmarks.results.record import Cpu, Record
from benchmarks.results.settings import rows_of
from tests.benchmarks.board.board_records import board, entries, paths

CPU = Cpu("maker", 25, 1, 1, ("avx2",), "AVX2", "mkl", True, {})


def on(record: Record, cpu: Cpu, processor: str = "AMD EPYC") -> Record:
    """The run made on a processor, a little slower and with another loss."""
    assert record.outcome is not None
    machine = replace(record.how.machine, cpu=cpu, processor=processor)
    terms = ({"Loss": (1.0 + 1e-5 * (cpu.model or 0), 0.5)},) * 2
    outcome = replace(record.outcome, loss_terms=terms)
    return replace(record, how=replace(record.how, machine=machine), outcome=outcome)


@pytest.fixture(scope="module")
def made() -> list[Record]:
    return paths(2)


@pytest.fixture
def confirmed(made: list[Record], tmp_path: Path) -> Board:
    """Two seeds of every setting, and seed 1 of plain fine-tuning from a second machine."""
    records = [on(record, CPU) for record in made]
    plain = next(r for r in records if r.label.startswith("lp-ft-seed1"))
    for record in records:
        write_record(tmp_path / f"{record.label}.json", record)
    write_record(tmp_path / "again.json", on(plain, replace(CPU, model=2), "Xeon"))
    return make_board(collect([tmp_path]), current_versions())


def test_a_confirmed_seed_stays_and_is_shown(confirmed: Board) -> None:
    entry = entries(confirmed)["lp-ft"]
    assert entry.ranked and not entry.marks and len(entry.row.finished) == 2
    assert {seed: len(records) for seed, records in entry.confirmations.items()} == {1: 2}
    text = confirmed_run(entry.confirmations[1])
    assert text.startswith("2 records agree within the tolerance, of 2 machines (AMD EPYC, Xeon)")
    written = markdown(confirmed)
    assert "| confirmed: seed 1 by 2 records |" in written
    total = len([r for r in confirmed.records if r.status == "finished"])
    assert f"- **A second machine**: 1 of the {total} runs " in written
    shown = page(confirmed)
    assert shown.count('title="confirmed: seed 1 by 2 records">confirmed</span>') == 1
    assert shown.count(text) == 1
    rows = list(csv.DictReader(io.StringIO(rows_csv(confirmed))))
    assert {row["method"]: row["confirmed"] for row in rows if row["confirmed"] != "0"} == {
        "lp-ft": "1"
    }
    runs = list(csv.DictReader(io.StringIO(runs_csv(confirmed))))
    twice = [(r["method"], r["seed"]) for r in runs if r["confirmations"] == "2"]
    assert twice == [("lp-ft", "1")] and {r["confirmations"] for r in runs} == {"1", "2"}


def test_the_markdown_has_a_legend(made: list[Record], tmp_path: Path) -> None:
    text = markdown(board(made, tmp_path))
    for title in ("Last", "Avg", "BWT", "Δ\\_LP"):
        assert text.count(f"\n- **{title}**: ") == 1
    assert "*front*: no other setting" in text
    assert "no seed is confirmed by a second machine." in text


def test_costs_of_two_processors_of_one_name_are_in_no_ratio(
    made: list[Record], tmp_path: Path
) -> None:
    """The processor is known as "AMD EPYC" on both machines."""
    for record in made:
        second = record.config["method"] != "lp-ft"
        moved = on(record, replace(CPU, model=2) if second else CPU)
        write_record(tmp_path / f"{record.label}.json", moved)
    mixed = make_board(collect([tmp_path]), current_versions())
    cells = {name: entry.cells for name, entry in entries(mixed).items()}
    assert cells["ldifs 1000"]["step_cost"] is None
    assert cells["ldifs 1000"]["peak_memory"] is not None
    assert cells["lp-ft"]["step_cost"] is not None
    marks = [mark.word for mark in entries(mixed)["ldifs 1000"].marks]
    assert marks == ["other machine"]
    shown = table(rows_of(collect([tmp_path]).records))
    assert "do not compare s/step between rows" in shown
    assert "several machines" not in table(rows_of(made))


def test_a_row_of_two_machines_has_no_step_time(made: list[Record]) -> None:
    records = [on(r, replace(CPU, model=1 + r.config["seed"])) for r in made]
    plain = table(rows_of(records))
    assert all(line.endswith("|  |") for line in plain.splitlines() if line.startswith("| l2sp"))
