"""A run that one process trains is skipped by every other process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from avalanche_proxyfda.checkpoint.files import LATEST
from benchmarks.execution.job import Job
from benchmarks.execution.launcher import launch
from benchmarks.execution.locks import LOCK, BusyRunError, RunLocks, idle
from benchmarks.execution.policy import Policy
from benchmarks.execution.torchrun import TorchrunExecutor
from benchmarks.results.files import write_record
from tests.benchmarks.records import finished, recipe


def one(folder: Path) -> Job:
    return Job(recipe("lp-ft"), folder)


def test_a_run_has_one_holder_and_leaves_no_folder(tmp_path: Path) -> None:
    job = one(tmp_path)
    first, second = RunLocks([job]), RunLocks([job])
    assert first.take(job) is None and (job.own_folder / LOCK).is_file()
    words = rf"^lp-ft, seed 0: another process trains this run, in {job.own_folder}$"
    with pytest.raises(BusyRunError, match=words):
        second.take(job)
    with idle(job) as free:
        assert not free
    first.release(job)
    assert list(tmp_path.iterdir()) == []
    assert second.take(job) is None
    second.release(job)


def test_a_record_that_another_process_wrote_meanwhile_is_taken(tmp_path: Path) -> None:
    job = one(tmp_path)
    locks = RunLocks([job])
    write_record(job.file, finished(job.config))
    assert locks.take(job) == finished(job.config)
    locks.release(job)
    again = RunLocks([job])  # with --no-resume: it was there when the command began
    assert again.take(job) is None
    again.release(job)


@pytest.mark.parametrize("resume", [True, False])
def test_a_command_skips_a_run_of_another_command(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    resume: bool,
) -> None:
    ran: list[Job] = []

    def execute(job: Job, tick: Any, parallel: int) -> Any:
        ran.append(job)
        return finished(job.config)

    monkeypatch.setattr("benchmarks.execution.torchrun.execute", execute)
    job, other = one(tmp_path), Job(recipe("fda", strength=1.0), tmp_path)
    job.checkpoint.mkdir(parents=True)
    checkpoint = job.checkpoint / LATEST
    checkpoint.touch()
    locks, policy = RunLocks([job]), Policy(resume=resume)
    locks.take(job)
    assert launch([job, other], tmp_path, TorchrunExecutor(), policy).status == 1
    shown = capsys.readouterr().out
    assert f"lp-ft, seed 0: another process trains this run, in {job.own_folder}: skipped" in shown
    assert shown.endswith("  lp-ft, seed 0: another process trains it\n")
    assert ran == [other] and checkpoint.exists() and not job.file.exists()
    locks.release(job)
    assert launch([job, other], tmp_path, TorchrunExecutor(), policy).status == 0
    assert job in ran and job.finished() is not None and not job.own_folder.exists()
