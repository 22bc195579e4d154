"""Ctrl-C and SIGTERM: what is said, the exit status, and commands that work when typed."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from avalanche_proxyfda.checkpoint.signals import AllExit, AllInterrupted
from benchmarks import __main__ as program
from benchmarks.commands import board, run
from benchmarks.execution import launcher
from benchmarks.execution.executor import Done, Stepped
from benchmarks.execution.job import Job
from benchmarks.execution.launcher import launch
from benchmarks.execution.local import LocalExecutor
from benchmarks.execution.policy import Policy
from benchmarks.execution.stopping import terminable, typed
from tests.benchmarks.execution.sweeps import small_jobs, write
from tests.benchmarks.records import finished


@pytest.fixture(autouse=True)
def interruptible() -> Iterator[None]:
    """SIGINT as on a terminal; a shell starts jobs in the background with SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Signalled:
    """An executor that finishes one job, and then gets a signal, or ends by one."""

    parallel = 1

    def __init__(self, number: int, in_training: bool = False) -> None:
        self.number, self.in_training = number, in_training

    def run(self, jobs: Sequence[Job], done: Done, stepped: Stepped) -> None:
        done(jobs[0], finished(jobs[0].config))
        if self.in_training:  # as a checkpoint's handler ends a training in this process
            raise SystemExit(128 + self.number)
        os.kill(os.getpid(), self.number)


@pytest.mark.parametrize(
    ("executor", "status"),
    [
        (Signalled(signal.SIGINT), 130),
        (Signalled(signal.SIGTERM), 143),
        (Signalled(signal.SIGTERM, True), 143),
    ],
)
@pytest.mark.parametrize("resume", [True, False])
def test_a_signal_says_that_the_same_command_goes_on(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    executor: Signalled,
    status: int,
    resume: bool,
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with terminable():
        end = launch(small_jobs(tmp_path), tmp_path, executor, Policy(resume))
    assert signal.getsignal(signal.SIGTERM) == before
    assert end.status == status and len(end.records) == 1
    words = "the same command" if resume else "the same command without --no-resume"
    assert f"What is finished is written; {words} goes on from there." in capsys.readouterr().out


def test_another_exit_stays_an_exit(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as end:
        launch(small_jobs(tmp_path), tmp_path, Signalled(3, True), Policy())
    assert end.value.code == 131


class Ended:
    """An executor that an exception ends."""

    parallel = 1

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def run(self, jobs: Sequence[Job], done: Done, stepped: Stepped) -> None:
        raise self.error


@pytest.mark.parametrize(
    ("alone", "together", "status"),
    [(KeyboardInterrupt(), AllInterrupted(), 130), (SystemExit(143), AllExit(143), 143)],
    ids=["int", "term"],
)
def test_a_rank_that_ends_alone_leaves_the_group_block_by_an_exit(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    alone: BaseException,
    together: BaseException,
    status: int,
) -> None:
    monkeypatch.setattr(launcher, "launched", lambda: True)
    jobs = small_jobs(tmp_path)
    assert launch(jobs, tmp_path, Ended(together), Policy()).status == status
    with pytest.raises(SystemExit) as end:
        launch(jobs, tmp_path, Ended(alone), Policy())
    assert end.value.code == status


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_before_the_first_run_says_so_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int, status: int
) -> None:
    def planned(args: object) -> list[Job]:
        os.kill(os.getpid(), number)
        raise AssertionError("the signal ends the command")

    monkeypatch.setattr(run, "planned", planned)
    monkeypatch.setattr("sys.argv", ["benchmarks", "run", "--config", "concepts.yaml"])
    assert program.main() == status
    assert "the same command goes on from there" in capsys.readouterr().out


def test_the_next_steps_that_are_printed_work_when_they_are_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def execute(self: LocalExecutor, jobs: Sequence[Job], done: Done, stepped: Stepped) -> None:
        for job in jobs:
            done(job, finished(job.config))

    monkeypatch.setattr(LocalExecutor, "run", execute)
    own = tmp_path / "of mine"
    own.mkdir()
    tiny = ["train.epochs=1", "stream.sets=[digits]", "panel.sets=[colours]"]
    ran = ["run", "--config", "concepts.yaml", "--methods", "lp-ft", "--set", *tiny]
    swept = ["sweep", "--matrix", write(tmp_path)]
    for words in (ran, swept):
        out = own / words[0]
        monkeypatch.setattr("sys.argv", ["benchmarks", *words, "--out", str(out)])
        assert program.main() == 0
        steps = [
            shlex.split(line)
            for line in capsys.readouterr().out.splitlines()
            if " -m benchmarks " in line
        ]
        assert [step[3] for step in steps] == ["board", "features", "export"][: len(steps)]
        monkeypatch.setattr("sys.argv", steps[0][2:])
        assert program.main() == 0
        page = out / "board" / "index.html"
        assert page.is_file() and str(page) in capsys.readouterr().out
        for step in steps:
            program.make_parser([step[3]]).parse_args(step[3:])
        for step in steps[1:]:
            (record,) = [word for word in step if word.endswith(".json")]
            assert Path(record).is_file()


def test_the_python_that_runs_now_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for place, path, shown in (
        (tmp_path / ".venv/bin", "/usr/nowhere", ".venv/bin/python3"),
        (tmp_path / ".venv/bin", str(tmp_path / ".venv/bin"), "python"),
        (Path("/opt/a b/bin"), "/usr/nowhere", "'/opt/a b/bin/python3'"),
    ):
        place_of = tmp_path / ".venv/bin"
        place_of.mkdir(parents=True, exist_ok=True)
        (place_of / "python").write_text("#!/bin/sh\n", encoding="utf-8")
        (place_of / "python").chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(place / "python3"))
        monkeypatch.setenv("PATH", path)
        assert typed("board", "runs/a b") == f"{shown} -m benchmarks board 'runs/a b'"


def test_a_board_of_one_record_lies_beside_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from benchmarks.results.files import write_record

    job = small_jobs(tmp_path)[0]
    write_record(job.file, finished(job.config))
    args = program.make_parser(["board"]).parse_args(["board", str(job.file)])
    assert board.main(args) == 0
    assert (job.folder / "board" / "index.html").is_file()
