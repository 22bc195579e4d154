"""A small matrix, its command line, and an executor that makes records at once."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.commands import sweep as command
from benchmarks.execution.executor import Done, Stepped
from benchmarks.execution.fitted import fitted
from benchmarks.execution.job import Job
from benchmarks.execution.local import LocalExecutor
from benchmarks.execution.matrix import jobs_of, load_matrix
from benchmarks.results.record import Record
from tests.benchmarks.records import finished

SMALL = {
    "streams": ["concepts.yaml"],
    "methods": ["lp-ft", "fda"],
    "seeds": [0, 1],
    "strengths": {"fda": [0.3, 1]},
    "set": {
        "train.epochs": 1,
        "stream.sets": ["digits"],
        "stream.train_images": 400,  # half of the usual number
        "panel.sets": ["colours"],
        "panel.train": 100,
        "panel.test": 100,
    },
}


def write(folder: Path, **changes: Any) -> str:
    path = folder / "m.yaml"
    path.write_text(yaml.safe_dump({**SMALL, **changes}), encoding="utf-8")
    return str(path)


def small_jobs(folder: Path, **changes: Any) -> list[Job]:
    return fitted(jobs_of(load_matrix(write(folder, **changes)), folder))


def call(*words: object) -> int:
    parser = argparse.ArgumentParser()
    command.add_options(parser)
    return command.main(parser.parse_args(list(map(str, words))))


def finished_job(job: Job) -> Record:
    """A finished record of a job, on its data and weights where they are known."""
    data = job.data
    if data is None:
        return finished(job.config)
    record = finished(job.config, panel=dict.fromkeys(data.panel, (0.8, 0.77)))
    assert record.stream is not None and record.panel is not None
    stream = replace(
        record.stream, split_sha256=data.stream["split_sha256"], summary=dict(data.stream)
    )
    panel = {
        name: replace(known, sha256=data.panel.get(name, known.sha256))
        for name, known in record.panel.items()
    }
    tower = data.tower or record.initial_tower_sha256
    return replace(
        record,
        stream=stream,
        panel=panel,
        reference_data=data.reference,
        initial_tower_sha256=tower,
    )


class InstantExecutor:
    """Makes records at once, or fails, and counts."""

    parallel = 1

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.fails: set[str] = set()
        self.stops: str | None = None

    def run(self, jobs: Sequence[Job], done: Done, stepped: Stepped) -> None:
        for job in jobs:
            if job.about == self.stops:
                raise KeyboardInterrupt
            self.ran.append(job.about)
            bad = job.about in self.fails
            done(job, RuntimeError("no more memory") if bad else finished_job(job))
            stepped(job.steps)


def instead_of_processes(patch: pytest.MonkeyPatch) -> InstantExecutor:
    """An executor that takes the place of every LocalExecutor."""
    instant = InstantExecutor()

    def run(self: LocalExecutor, jobs: Sequence[Job], done: Done, stepped: Stepped) -> None:
        instant.run(jobs, done, stepped)

    patch.setattr(LocalExecutor, "run", run)
    return instant


class TwoWordsError(Exception):
    """Cannot be pickled: its arguments are not those of its making."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} {second}")


def refuses(job: Job, parallel: int) -> Record:
    """In the place of a run: raises an error that cannot travel between processes."""
    raise TwoWordsError(f"seed {job.config.seed}", "is refused")
