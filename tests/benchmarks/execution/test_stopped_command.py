"""Ctrl-C and SIGTERM to a real command: what it says, its status, and how it goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks import __main__ as program
from benchmarks.execution import local
from benchmarks.execution.executor import Done, Stepped
from benchmarks.execution.job import Job
from benchmarks.execution.local import LocalExecutor
from benchmarks.execution.torchrun import TorchrunExecutor
from benchmarks.results.files import read_record
from tests.streams.test_photo_folders import flat

ROOT = Path(__file__).parents[3]
Wait = Callable[[], int | None]
"""Waits for the end of a command, and returns its status."""


@pytest.fixture(autouse=True)
def interruptible() -> Iterator[None]:
    """SIGINT as on a terminal; a shell starts jobs in the background with SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def stop(pid: int, wait: Wait, out: Path, send: Callable[[int, int], None], number: int) -> None:
    """Send a signal after the next checkpoint, and check the status."""

    def saved() -> int:
        files = list(out.glob("*/checkpoint/checkpoint.safetensors"))
        return files[0].stat().st_mtime_ns if files else 0

    before, limit = saved(), time.monotonic() + 200
    while saved() == before and time.monotonic() < limit:
        time.sleep(0.01)
    send(pid, number)
    assert wait() == 128 + number


def check(said: str, out: Path) -> None:
    assert "Stopped. What is finished is written; the same command goes on" in said, said
    assert "Traceback" not in said and not list(out.glob("*.json"))


def as_command(words: list[str], file: Path, forks: Any) -> None:
    """In a new process: the command, whose runs are in such processes too."""
    os.setsid()
    with file.open("wb") as sink:
        for stream in (1, 2):
            os.dup2(sink.fileno(), stream)
    vars(local)["mp"] = SimpleNamespace(get_context=lambda method: forks)
    sys.argv = words
    sys.exit(program.main())


def test_a_signal_ends_the_command_and_the_same_command_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forks: Any
) -> None:
    flat(tmp_path / "pets", count=20)
    out = tmp_path / "out"
    sets = ["backbone.name=tiny-clip", "head.kind=random", "train.epochs=4", "train.batch=4"]
    often = ["where.checkpoint_steps=1", "where.device=cpu", "where.keep_weights=false"]
    words = ["benchmarks", "run", "--data", str(tmp_path / "pets"), "--methods", "finetune"]
    words += ["--out", str(out), "--set", *sets, *often]
    with (tmp_path / "first.txt").open("wb") as sink:
        first = subprocess.Popen(
            [sys.executable, "-m", *words],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:  # Ctrl-C of a terminal signals every process of the command
        stop(first.pid, lambda: first.wait(100), out, os.killpg, signal.SIGINT)
    finally:
        first.kill()
    check((tmp_path / "first.txt").read_text(encoding="utf-8"), out)
    second = forks.Process(target=as_command, args=(words, tmp_path / "second.txt", forks))
    second.start()

    def ended() -> int | None:
        second.join(100)
        status: int | None = second.exitcode
        return status

    try:  # a job scheduler signals one
        stop(second.pid, ended, out, os.kill, signal.SIGTERM)
    finally:
        second.kill()
    check((tmp_path / "second.txt").read_text(encoding="utf-8"), out)

    def run(self: LocalExecutor, jobs: Sequence[Job], done: Done, stepped: Stepped) -> None:
        TorchrunExecutor().run(jobs, done, stepped)  # in this process

    monkeypatch.setattr(LocalExecutor, "run", run)
    monkeypatch.setattr("sys.argv", words)
    assert program.main() == 0
    (record,) = map(read_record, out.glob("*.json"))
    assert record.status == "finished" and record.cost is not None
    places = [int(text.split(", and ")[1].split()[0]) for text in record.resumed_from.split("; ")]  # type: ignore[union-attr]
    assert len(places) == 2 and 0 < places[0] < places[1] < record.cost.steps
