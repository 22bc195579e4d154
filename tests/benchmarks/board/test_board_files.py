"""The board's files, and the command that writes them."""

from __future__ import annotations

import csv
import io
import os
import random
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.board.figures import figures
from benchmarks.board.model import make_board
from benchmarks.board.page import page
from benchmarks.board.text import markdown, rows_csv, runs_csv
from benchmarks.board.write import current_versions, write_board
from benchmarks.results.files import collect, write_record
from tests.benchmarks.board.board_records import (
    HOSTILE,
    board,
    entries,
    run_of,
    troubled,
)
from tests.benchmarks.records import finished, recipe

ROOT = Path(__file__).parents[3]


def test_the_same_records_give_the_same_bytes(tmp_path: Path) -> None:
    first = troubled(tmp_path / "a")
    second = tmp_path / "b"
    second.mkdir()
    files = list(first.iterdir())
    random.Random(1).shuffle(files)
    for file in files:  # in another order
        shutil.copy(file, second / file.name)
    write_board(collect([first]), tmp_path / "one")
    stale = tmp_path / "two" / "figure-9-gone-paths.png"
    stale.parent.mkdir()
    stale.write_bytes(b"of an earlier board")
    (tmp_path / "matplotlibrc").write_text("font.size: 14\n", encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "benchmarks",
        "board",
        str(second),
        "--out",
        str(tmp_path / "two"),
    ]
    surroundings = {"MATPLOTLIBRC": str(tmp_path), "PYTHONHASHSEED": "7", "OMP_NUM_THREADS": "1"}
    environment = {**os.environ, **surroundings}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    names = sorted(p.name for p in (tmp_path / "one").iterdir())
    assert {"index.html", "board.md", "board.csv", "runs.csv"} <= set(names)
    assert (
        sum(name.endswith(".png") for name in names)
        == 4
        == sum(name.endswith(".svg") for name in names)
    )
    for name in names:
        one, two = ((tmp_path / folder / name).read_bytes() for folder in ("one", "two"))
        assert one == two, name
    assert not stale.exists()


def test_no_name_becomes_markup(tmp_path: Path) -> None:
    made = make_board(collect([troubled(tmp_path)]), current_versions())
    text = page(made)
    assert HOSTILE not in text and "<img" not in text and text.count("<script") == 2
    assert "&lt;script&gt;" in text
    assert "<script" not in markdown(made) and "<img" not in markdown(made)
    assert figures(made)


def test_csv_holds_every_row_and_run(tmp_path: Path) -> None:
    made = make_board(collect([troubled(tmp_path)]), current_versions())
    rows = list(csv.DictReader(io.StringIO(rows_csv(made))))
    assert len(rows) == sum(len(c.entries) for c in made.comparisons)
    plain = next(r for r in rows if r["method"] == "lp-ft" and r["seeds"] == "3")
    cell = entries(made)
    assert {r["last"] for r in rows} >= {
        repr(c.mean) for e in cell.values() if (c := e.cells["last"])
    }
    assert plain["delta_lp_vs_plain"] == "" and plain["ranked"] == "True"
    runs = list(csv.DictReader(io.StringIO(runs_csv(made))))
    assert len(runs) == len(made.records) and {r["status"] for r in runs} == {"finished", "failed"}
    formula = finished(recipe("fda", strength=1.0, backbone__weights="=1+1"))
    assert formula.stream is not None
    write_record(
        tmp_path / "f" / "x.json", replace(formula, stream=replace(formula.stream, name="=1+1"))
    )
    text = rows_csv(make_board(collect([tmp_path / "f"]), current_versions()))
    assert "\n'=1+1," in text


def test_two_hundred_runs_stay_below_five_megabytes(tmp_path: Path) -> None:
    records = []
    for seed in range(10):
        for k in range(20):
            record = run_of(recipe("fda", strength=0.1 + k, seed=seed), 0.6, -0.03)
            outcome, stream = record.outcome, record.stream
            assert outcome is not None and stream is not None
            # as large as ten experiences of Split ImageNet-R, eight sets probed after each
            probe: Any = {s: {f"set{j}": 0.5 for j in range(8)} for s in ("validation", "test")}
            moments = tuple(
                replace(outcome.panel[-1], after=t, linear_probe=probe, zero_shot=probe)
                for t in range(11)
            )
            matrix = tuple(
                tuple(0.123456789 if j < t else None for j in range(10)) for t in range(11)
            )
            whole = replace(
                stream,
                experiences=tuple(f"classes {t}" for t in range(10)),
                train=(1,) * 10,
                validation=(1,) * 10,
                test=(1,) * 10,
                summary={"class_order": list(range(200)), "wnids": ["n01443537"] * 200},
            )
            assert record.panel is not None
            records.append(
                replace(
                    record,
                    stream=whole,
                    panel={f"set{j}": record.panel["shapes"] for j in range(8)},
                    outcome=replace(
                        outcome,
                        accuracy=matrix,
                        panel=moments,
                        validation_learnt=(0.5,) * 10,
                        validation_last=(0.5,) * 10,
                        loss_terms=({"Loss": (1.0,) * 5},) * 10,
                    ),
                )
            )
    made = board(records, tmp_path)
    assert len(made.records) == 200
    size = len(page(made).encode())
    assert 10**6 < size < 5 * 10**6, size


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    from benchmarks import __main__

    troubled(tmp_path / "records")

    def call(*words: object) -> int:
        monkeypatch.setattr("sys.argv", ["benchmarks", "board", *map(str, words)])
        return __main__.main()

    assert call(tmp_path / "records", "--out", tmp_path / "out") == 0
    shown = capsys.readouterr().out
    assert "1 of them failed" in shown and "not used: cut.json: it is cut off" in shown
    assert str(tmp_path / "out" / "index.html") in shown
    (tmp_path / "empty").mkdir()
    assert call(tmp_path / "empty", "--out", tmp_path / "no") == 2
    assert "no record (*.json)" in capsys.readouterr().err and not (tmp_path / "no").exists()
    assert call(tmp_path / "records", "--out", tmp_path / "no", "--seeds", 0) == 2
    # files alone that are no records: a page that says so
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.json").write_text("{}", encoding="utf-8")
    assert call(tmp_path / "bad", "--out", tmp_path / "bad-out") == 1
    said = capsys.readouterr()
    assert "0 runs, " in said.out and "No record was used: every file was refused." in said.err
    assert "no schema_version" in (tmp_path / "bad-out" / "index.html").read_text(encoding="utf-8")
