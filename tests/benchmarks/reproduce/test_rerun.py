"""A record's run made again, and compared."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks import __main__
from benchmarks.experiment.run import run
from benchmarks.reproduce import weights
from benchmarks.results.files import seal, write_record
from benchmarks.results.record import Record
from tests.benchmarks.records import failed, recipe

SHORT = {"train__epochs": 1, "stream__sets": ["digits"], "panel__sets": ["colours"]}


@pytest.fixture(scope="module")
def record() -> Record:
    return run(recipe("lp-ft", **SHORT))


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch) -> Any:
    def call(*words: object) -> int:
        monkeypatch.setattr("sys.argv", ["benchmarks", "rerun", *map(str, words)])
        return __main__.main()

    return call


def test_every_number_comes_out_again(
    record: Record, tmp_path: Path, call: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    write_record(tmp_path / "a.json", record)
    assert call(tmp_path / "a.json") == 0
    assert "Every number of the record came out again." in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == [tmp_path / "a.json"]


def test_what_differs_is_named(
    record: Record,
    tmp_path: Path,
    call: Any,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine = replace(record.how.machine, processor="another")
    now = replace(record, how=replace(record.how, machine=machine))
    monkeypatch.setattr(weights, "trained_again", lambda *_: (b"", now))
    write_record(tmp_path / "a.json", record)
    content = json.loads((tmp_path / "a.json").read_text())
    content["outcome"]["accuracy"][1][0] = 0.5
    content["sha256"] = seal(content)
    (tmp_path / "a.json").write_text(json.dumps(content))
    assert call(tmp_path / "a.json") == 1
    shown = capsys.readouterr().out
    assert "1 values differ" in shown
    assert "outcome.accuracy[1][0]: 0.5 in the record, " in shown
    assert f"processor: {record.how.machine.processor} then, another now" in shown


def test_what_cannot_be_made_again_is_said(
    record: Record, tmp_path: Path, call: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    write_record(tmp_path / "f.json", failed(recipe("lp-ft")))
    assert call(tmp_path / "f.json") == 2
    assert "the run failed" in capsys.readouterr().err
    (tmp_path / "cut.json").write_text("{")
    assert call(tmp_path / "cut.json") == 2
    assert call(tmp_path / "nowhere.json") == 2
    assert capsys.readouterr().err.count("error: ") == 2
