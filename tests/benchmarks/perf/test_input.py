"""``python -m benchmarks perf input``: a report with every pipeline, and its table."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.perf import input as measured
from benchmarks.perf.bounds import Bound
from benchmarks.perf.photographs import photograph
from benchmarks.perf.report import read
from tests.benchmarks.perf.test_perf import perf


def test_every_pipeline_is_measured_and_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    few = ("input", "--quick", "--images", "16", "--batch", "4", "--rounds", "1")
    monkeypatch.setattr(measured, "BOUNDS", (Bound("pil / 3 over tensor", 1e6, "x"),))
    assert perf(monkeypatch, *few, "--check", "--out", str(tmp_path)) == 0
    made = read(tmp_path / "input.json")
    assert capsys.readouterr().out.strip().splitlines()[-1] == measured.line(made)
    arms = {f"{p}, {v}" for p in measured.PIPELINES for v in measured.VIEWS}
    assert set(made["summary"]) == set(made["raw"]) == arms
    table = measured.table(made).splitlines()
    assert len(table) == 2 + len(arms)
    for name in arms:
        times = made["raw"][name]
        assert all(0 < a <= b for a, b in zip(times["loaded"], times["arrived"], strict=True))
    # decoding, resizing and floats of PIL take longer than a copy of stored rows on any machine
    assert made["summary"]["cached, none"]["faster"]["median"] > 2
    pause, *waits = made["raw"]["tensor, none"]["waits"][0]
    assert pause > 0 and len(waits) == 16


def test_a_gap_is_the_first_wait_above_the_usual_one() -> None:
    assert measured._gap(1.0, [3.0, 1.0, 1.0, 1.0]) == pytest.approx(2 / 10)
    assert measured._gap(1.0, [0.5, 1.0, 1.0]) == 0


def test_numbers_below_one_are_refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert perf(monkeypatch, "input", "--images", "-1") == 2
    assert "must be positive" in capsys.readouterr().err


def test_photographs_are_the_same_again() -> None:
    assert photograph(3).tobytes() == photograph(3).tobytes() != photograph(4).tobytes()
    assert photograph(0).size == (500, 375)
