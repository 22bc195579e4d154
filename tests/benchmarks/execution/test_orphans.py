"""Processes of a command that is killed end with it."""

from __future__ import annotations

import multiprocessing as mp
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.execution import local
from benchmarks.execution.job import Job
from benchmarks.execution.local import LocalExecutor
from benchmarks.results.record import Record
from tests.benchmarks.records import recipe

PATIENCE = 60.0
"""Seconds until the test fails; the machine may be busy."""


def waited(true: Callable[[], object]) -> bool:
    end = time.monotonic() + PATIENCE
    while not true() and time.monotonic() < end:
        time.sleep(0.02)
    return bool(true())


def states() -> dict[int, tuple[int, str]]:
    """Parent and state of every process."""
    words = ["ps", "-A", "-o", "pid=,ppid=,stat="]
    lines = subprocess.run(words, capture_output=True, encoding="utf-8").stdout.splitlines()
    return {int(pid): (int(parent), state) for pid, parent, state in map(str.split, lines)}


def sleeps(job: Job, parallel: int) -> Record:
    """In the place of a long run."""
    (job.folder / "began").write_text(f"{os.getpid()}\n", encoding="utf-8")
    time.sleep(120)
    raise AssertionError


def command(folder: str) -> None:
    """In the place of a command: it runs a job by the local executor."""
    local.mp = SimpleNamespace(get_context=lambda method: mp.get_context("fork"))  # type: ignore[assignment]
    job = Job(recipe("lp-ft"), Path(folder))
    LocalExecutor(1, 1, sleeps).run([job], lambda *_: None, lambda _: None)


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL and ps")
def test_a_killed_command_leaves_neither_worker_nor_manager(tmp_path: Path, forks: Any) -> None:
    process, began = forks.Process(target=command, args=(str(tmp_path),)), tmp_path / "began"
    process.start()
    try:
        assert waited(lambda: began.exists() and began.read_text(encoding="utf-8"))
        worker = int(began.read_text(encoding="utf-8"))
        started = {pid for pid, (parent, _) in states().items() if parent == process.pid}
        assert worker in started and len(started) == 2  # the other one is the manager
    finally:
        process.kill()
        process.join()

    def none_is_left() -> bool:
        there = states()
        return all(there.get(pid, (0, "Z"))[1].startswith("Z") for pid in started)

    assert waited(none_is_left), started
