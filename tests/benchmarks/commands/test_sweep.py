"""``python -m benchmarks sweep``: what it leaves alone, what it retries, single tasks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.commands import work
from benchmarks.config import changed
from benchmarks.execution import torchrun
from benchmarks.execution.job import Job
from benchmarks.results.files import read_record, write_record
from benchmarks.results.record import Record, Selection
from tests.benchmarks.execution.sweeps import (
    SMALL,
    InstantExecutor,
    call,
    finished_job,
    instead_of_processes,
    small_jobs,
    write,
)
from tests.benchmarks.records import finished


@pytest.fixture
def instant(monkeypatch: pytest.MonkeyPatch) -> InstantExecutor:
    return instead_of_processes(monkeypatch)


def test_what_is_finished_is_left_alone_and_failures_are_retried_when_asked(
    instant: InstantExecutor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--matrix", write(tmp_path), "--out", tmp_path / "out")
    instant.fails = {"fda, weight = 0.3, seed 0"}
    assert call(*words) == 1
    assert len(instant.ran) == 6  # the failure stopped none
    shown = capsys.readouterr()
    assert "5 of 6 runs are finished" in shown.out and "no more memory" in shown.out
    assert "6 runs, of which 0 are finished" in shown.out
    instant.ran, instant.fails = [], set()
    assert call(*words) == 1 and instant.ran == []
    assert "1 failed: --retry-failed runs it again" in capsys.readouterr().out
    assert call(*words, "--retry-failed") == 0 and instant.ran == ["fda, weight = 0.3, seed 0"]
    files = sorted((tmp_path / "out" / "concepts").iterdir())
    assert len(files) == 6 and {read_record(f).status for f in files} == {"finished"}
    assert call(*words) == 0 and len(instant.ran) == 1
    assert call(*words, "--no-resume") == 0 and len(instant.ran) == 7


def test_a_file_that_is_no_record_of_the_run_is_kept_aside(
    instant: InstantExecutor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--matrix", write(tmp_path), "--out", tmp_path)
    first, second, *_ = small_jobs(tmp_path)
    write_record(first.file, finished(second.config))  # of another run
    second.file.write_text("{", encoding="utf-8")
    assert call(*words) == 1 and len(instant.ran) == 4
    shown = capsys.readouterr().out
    assert "the record of another run" in shown and "cut off" in shown
    assert call(*words, "--retry-failed") == 0 and len(instant.ran) == 6
    assert second.file.with_name(f"{second.file.name}.refused").read_text(encoding="utf-8") == "{"
    assert read_record(first.file).run_id == first.config.identity


def test_an_interrupt_leaves_what_is_finished(
    instant: InstantExecutor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--matrix", write(tmp_path), "--out", tmp_path / "out")
    instant.stops = "fda, weight = 1, seed 0"
    assert call(*words) == 130
    assert "the same command goes on from there" in capsys.readouterr().out
    files = list((tmp_path / "out" / "concepts").iterdir())
    assert len(files) == 2 and all(read_record(f).status == "finished" for f in files)
    instant.stops = None
    assert call(*words) == 0 and len(instant.ran) == 6


def test_the_list_and_a_single_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def finishes(job: Job, tick: Callable[[], None] | None = None, parallel: int = 1) -> Record:
        return finished_job(job)

    def fails(job: Job, tick: Callable[[], None] | None = None, parallel: int = 1) -> Record:
        raise MemoryError("no more")

    monkeypatch.setattr(torchrun, "execute", finishes)
    words = ("--matrix", write(tmp_path), "--out", tmp_path / "out")
    assert call(*words, "--list") == 0
    assert not (tmp_path / "out").exists()
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "   1  concepts  fda, weight = 0.3, seed 0: absent" and len(lines) == 6
    assert call(*words, "--task", 1) == 0
    assert call(*words, "--task", 1) == 0
    assert "finished already" in capsys.readouterr().out
    assert call(*words, "--list") == 0
    assert capsys.readouterr().out.splitlines()[1].endswith("finished")
    monkeypatch.setattr(torchrun, "execute", fails)
    assert call(*words, "--task", 2) == 1
    (record,) = (read_record(f) for f in (tmp_path / "out/concepts").glob("fda-1-*.json"))
    assert record.status == "failed" and record.reason == "MemoryError: no more"
    assert call(*words, "--task", 2) == 1  # not run again
    monkeypatch.setattr(torchrun, "execute", finishes)
    assert call(*words, "--task", 2, "--retry-failed") == 0


def test_the_list_asks_the_device_only_where_a_record_depends_on_the_precision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[int] = []
    on_this_machine = work.on_this_machine

    def counted(jobs: Sequence[Job]) -> list[Job]:
        asked.append(len(jobs))
        return on_this_machine(jobs)

    monkeypatch.setattr(work, "on_this_machine", counted)
    settings: Any = SMALL["set"]
    own = {"set": {**settings, "train.precision": "auto", "where.device": "cpu"}}
    first, second, *_ = small_jobs(tmp_path, **own)
    assert first.config.train.precision == "float32"
    words = ("--matrix", tmp_path / "m.yaml", "--out", tmp_path, "--list")

    def states() -> list[str]:
        assert call(*words) == 0
        return [line.rpartition(": ")[2] for line in capsys.readouterr().out.splitlines()]

    assert states() == ["absent"] * 6 and asked == []
    write_record(first.file, finished_job(first))
    train = replace(second.config.train, precision="bf16")
    of_a_gpu = replace(second, config=changed(second.config, train=train))
    write_record(of_a_gpu.file, finished_job(of_a_gpu))
    assert of_a_gpu.file != second.file
    assert states() == ["finished", *["absent"] * 5] and asked == [6]


def test_a_single_task_that_is_finished_has_the_selection_of_the_matrix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def alone(job: Job, tick: Callable[[], None] | None = None, parallel: int = 1) -> Record:
        return replace(finished_job(job), selection=Selection("given", 1))

    monkeypatch.setattr(torchrun, "execute", alone)
    words = ("--matrix", write(tmp_path), "--out", tmp_path, "--task", 1)
    assert call(*words) == 0
    (file,) = (tmp_path / "concepts").glob("fda-*.json")
    before = read_record(file)
    assert before.selection == Selection("given", 1)
    assert call(*words) == 0
    assert read_record(file) == replace(before, selection=Selection("validation", 2))
