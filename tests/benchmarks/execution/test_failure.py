"""Errors of runs: nothing of a failed run stays, and errors of memory name their keys."""

from __future__ import annotations

import gc
import os
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.execution.failure import RunFailedError, attempt
from benchmarks.execution.job import Job
from benchmarks.execution.local import LocalExecutor
from benchmarks.results.record import Record
from tests.benchmarks.execution.test_local import two_jobs
from tests.benchmarks.records import finished, recipe


class Model:
    """Stands in for what takes a device's memory."""


def test_a_failed_run_holds_nothing_of_it(tmp_path: Path) -> None:
    alive: list[weakref.ref[Model]] = []

    def fails(job: Job, parallel: int) -> Record:
        model = Model()
        alive.append(weakref.ref(model))
        raise RuntimeError("no such data")

    with pytest.raises(RunFailedError) as caught:
        attempt(fails, Job(recipe("lp-ft"), tmp_path), 1)
    error = caught.value
    assert error.__context__ is None and error.__cause__ is None
    gc.collect()
    assert alive[0]() is None
    assert str(error) == "RuntimeError: no such data" and "in fails" in error.trace


@pytest.mark.parametrize(
    ("raised", "keys"),
    [
        (torch.OutOfMemoryError("CUDA out of memory."), ("train.batch", "train.eval_batch")),
        (RuntimeError("MPS backend out of memory (MPS allocated: 9.00 GB)"), ("train.batch",)),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), ("train.batch",)),
        (RuntimeError("unable to allocate shared memory(shm)"), ("train.workers=0", "--shm-size")),
        (RuntimeError("DataLoader worker is killed by signal: Bus error."), ("train.workers=0",)),
    ],
)
def test_an_error_of_memory_names_the_keys_that_help(
    raised: Exception, keys: tuple[str, ...], tmp_path: Path
) -> None:
    def fails(job: Job, parallel: int) -> Record:
        raise raised

    with pytest.raises(RunFailedError) as caught:
        attempt(fails, Job(recipe("lp-ft"), tmp_path), 1)
    for text in (str(caught.value), caught.value.trace):  # the record, and what is printed
        assert str(raised) in text and all(key in text for key in keys)


def test_rows_beyond_the_shared_memory_keep_their_own_remedy(tmp_path: Path) -> None:
    def fails(job: Job, parallel: int) -> Record:
        raise OSError("rows do not fit into shared memory: give where.pixel_dir")

    with pytest.raises(RunFailedError) as caught:
        attempt(fails, Job(recipe("lp-ft"), tmp_path), 1)
    assert str(caught.value).endswith("give where.pixel_dir")


def fails_of_fda(job: Job, parallel: int) -> Record:
    (job.folder / f"{job.config.method}.pid").write_text(str(os.getpid()), encoding="utf-8")
    if job.config.method == "fda":
        raise RuntimeError("CUDA error: device-side assert triggered")
    return finished(job.config)


@pytest.mark.usefixtures("quick_processes")
def test_a_run_after_a_failed_one_has_a_new_process(tmp_path: Path) -> None:
    ended: list[Any] = []
    jobs = two_jobs(tmp_path)
    LocalExecutor(1, 1, fails_of_fda).run(jobs, lambda _, end: ended.append(end), lambda _: None)
    assert isinstance(ended[0], RunFailedError) and ended[1] == finished(jobs[1].config)
    pids = {(tmp_path / f"{name}.pid").read_text(encoding="utf-8") for name in ("fda", "lp-ft")}
    assert len(pids) == 2
