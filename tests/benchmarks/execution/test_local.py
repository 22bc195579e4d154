"""Processes of this machine: a run that dies or is refused harms no other; one signature."""

from __future__ import annotations

import inspect
import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.execution import local
from benchmarks.execution.executor import Executor
from benchmarks.execution.job import Job
from benchmarks.execution.local import LocalExecutor
from benchmarks.execution.ray import RayExecutor
from benchmarks.execution.settle import Settler
from benchmarks.execution.torchrun import TorchrunExecutor
from benchmarks.results.record import Record
from tests.benchmarks.execution.sweeps import refuses, small_jobs
from tests.benchmarks.records import finished, recipe

pytestmark = pytest.mark.usefixtures("quick_processes")


def test_executors_have_one_signature() -> None:
    executors: list[Executor] = [LocalExecutor(), RayExecutor(), TorchrunExecutor()]
    wanted = inspect.signature(Executor.run)
    for executor in executors:
        assert inspect.signature(type(executor).run) == wanted
        assert executor.parallel == 1


def test_an_error_of_a_run_comes_back_as_text_whatever_it_is(tmp_path: Path) -> None:
    job, *_ = small_jobs(tmp_path)
    ended: list[Any] = []
    LocalExecutor(1, 1, refuses).run([job], lambda _, end: ended.append(end), lambda _: None)
    assert str(ended[0]) == "TwoWordsError: seed 0 is refused"


def dies_of_fda(job: Job, parallel: int) -> Record:
    """In the place of a run: the system kills it if it is of FDA."""
    if job.config.method == "fda":
        os._exit(9)
    return finished(job.config)


def two_jobs(out: Path) -> list[Job]:
    return [Job(recipe("fda", strength=1.0), out), Job(recipe("lp-ft"), out)]


@pytest.mark.parametrize("parallel", [1, 2])
def test_a_process_that_dies_takes_no_other_run_with_it(tmp_path: Path, parallel: int) -> None:
    ended: dict[str, Any] = {}
    settle = Settler()

    def done(job: Job, outcome: Record | BaseException) -> None:
        ended[job.config.method] = outcome
        settle(job, outcome)

    jobs = two_jobs(tmp_path)
    LocalExecutor(parallel, 1, dies_of_fda).run(jobs, done, lambda _: None)
    assert ended["lp-ft"] == finished(jobs[1].config) == jobs[1].record()
    assert "the process of the run died" in str(ended["fda"])
    left = jobs[0].record()
    assert left is not None and left.status == "failed" and "died" in (left.reason or "")


def sleeps(job: Job, parallel: int) -> Record:
    """In the place of a long run."""
    (job.folder / job.config.method).touch()
    time.sleep(120)
    raise AssertionError


def test_an_interrupt_ends_what_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(seconds: float) -> None:
        if (tmp_path / "fda").exists():
            raise KeyboardInterrupt  # a signal itself would be ignored under nohup
        time.sleep(seconds)

    monkeypatch.setattr(local, "time", SimpleNamespace(sleep=interrupted))
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        LocalExecutor(1, 1, sleeps).run(two_jobs(tmp_path), lambda *_: None, lambda _: None)
    assert time.monotonic() - started < 90 and not (tmp_path / "lp-ft").exists()
