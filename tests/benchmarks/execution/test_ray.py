"""Ray for real: the records of processes, though a worker is killed."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.execution import ray as ray_module
from benchmarks.execution.executor import execute
from benchmarks.execution.fitted import fitted
from benchmarks.execution.job import Job
from benchmarks.execution.matrix import jobs_of, load_matrix
from benchmarks.execution.ray import RayExecutor
from benchmarks.execution.settle import Settler
from benchmarks.results.files import read_record
from benchmarks.results.record import Record
from tests.benchmarks.execution.sweeps import call, refuses, write


def killed_once(job: Job, parallel: int) -> Record:
    """A run whose worker is killed in its middle, the first time."""
    steps = 0

    def stepped(made: int) -> None:
        nonlocal steps
        steps += 1
        marker = job.folder / "killed"
        if steps == 5 and job.config.method == "fda" and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    return execute(job, stepped, parallel)


def always_killed(job: Job, parallel: int) -> Record:
    (job.folder / f"try-{os.getpid()}").touch()
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


@pytest.mark.timeout(600)
@pytest.mark.usefixtures("quick_processes")
def test_ray_and_processes_give_the_same_records_though_a_worker_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = pytest.importorskip("ray")
    monkeypatch.setenv("RAY_worker_niceness", "0")
    matrix = write(tmp_path, seeds=[0], strengths={"fda": [0.3]})
    assert call("--matrix", matrix, "--out", tmp_path / "local", "--jobs", 2) == 0
    jobs = fitted(jobs_of(load_matrix(matrix), tmp_path / "ray"))
    jobs[0].folder.mkdir(parents=True)
    settle = Settler()
    root = str(Path(__file__).parents[3])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        runtime_env={"env_vars": {"PYTHONPATH": path, "TQDM_DISABLE": "1"}},
    )
    ended: list[Any] = []

    def done(job: Job, outcome: Record | BaseException) -> None:
        ended.append(outcome)

    def stepped(steps: int) -> None:
        raise AssertionError("steps are counted on other machines")

    try:
        RayExecutor(work=killed_once).run(jobs, settle, stepped)
        with pytest.raises(ValueError, match=r"no node of the cluster has as many .* 2 CPUs"):
            RayExecutor(cpus=3).run(jobs, done, stepped)
        other_seed = replace(jobs[0], config=replace(jobs[0].config, seed=9))
        RayExecutor(work=refuses).run([other_seed], done, stepped)
        # last, since each new worker imports torch; one retry kills the two that are there
        monkeypatch.setattr(ray_module, "RETRIES", 1)
        RayExecutor(work=always_killed).run(jobs[:1], done, stepped)
    finally:
        ray.shutdown()
    assert (jobs[0].folder / "killed").exists()
    for job in jobs:
        own = job.record()
        other = read_record(tmp_path / "local" / "concepts" / job.file.name)
        assert own is not None and own.reproducible() == other.reproducible()
        assert own.how.command == other.how.command and own.how.machine.jobs == 2
    assert str(ended[0]) == "TwoWordsError: seed 9 is refused"
    assert "its worker died 2 times" in str(ended[1])
    assert len(list(jobs[0].folder.glob("try-*"))) == 2


def test_ray_may_be_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(ImportError, match=r"pip install 'avalanche-proxyfda\[ray\]'"):
        call("--matrix", write(tmp_path), "--out", tmp_path / "out", "--engine", "ray")
