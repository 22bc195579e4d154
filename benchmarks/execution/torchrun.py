"""The executor under torchrun: one run at a time, on all ranks together; rank 0 writes."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

from torch import distributed

from avalanche_proxyfda.distributed import computed_by_main, process_group
from benchmarks.config import Config
from benchmarks.execution.executor import Done, Stepped, execute
from benchmarks.execution.failure import RunFailedError, attempt
from benchmarks.execution.job import Job
from benchmarks.execution.locks import BusyRunError, RunLocks
from benchmarks.experiment.ranks import is_main, launched
from benchmarks.results.record import Record

T = TypeVar("T")


@contextmanager
def joined(configs: Sequence[Config], parallel: int) -> Iterator[None]:
    """Join the other ranks, if torchrun started this process; only rank 0 prints from then on.

    Args:
        configs: configurations of the runs.
        parallel: runs at a time.

    Raises:
        ValueError: for several runs at a time, or a device that is not each rank's own.
    """
    if not launched():
        yield
        return
    if parallel > 1:
        raise ValueError(f"--jobs {parallel}: under torchrun all ranks work on one run at a time")
    devices = {config.where.device for config in configs}
    if len(devices) > 1:
        raise ValueError(f"where.device differs between runs of one torchrun: {sorted(devices)}")
    with process_group(devices.pop()):
        if not is_main():
            sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 (to the end)
        yield


def first_on_machine(work: Callable[[], T]) -> T:
    """Call ``work`` on each machine's first rank, then on the others: archives unpack once."""
    if not launched():
        return work()
    first = os.environ["LOCAL_RANK"] == "0"
    value = work() if first else None
    distributed.all_gather_object([None] * distributed.get_world_size(), None)
    return value if first else work()  # type: ignore[return-value]


def decided_by_main(decide: Callable[[], T]) -> T:
    """Call ``decide`` on rank 0; every rank gets its value, for ranks may see other files."""
    if not launched():
        return decide()
    values: list[Any] = [decide() if is_main() else None]
    distributed.broadcast_object_list(values, src=0)
    value: T = values[0]
    return value


@dataclass(frozen=True)
class TorchrunExecutor:
    """Runs jobs one after the other in this process, as every other rank does.

    Attributes:
        parallel: 1: all ranks work on one run at a time.
    """

    parallel: int = 1

    def run(self, jobs: Sequence[Job], done: Done, stepped: Stepped) -> None:
        """Run the jobs; ``done`` and ``stepped`` are called on rank 0.

        On several ranks an error ends all jobs: the other ranks may have no error, and would
        wait without an end.

        Raises:
            RunFailedError: when a run raised an error on one of several ranks.
        """
        locks = RunLocks(jobs)
        try:
            self._run(jobs, done, stepped, locks)
        finally:
            locks.release_all(jobs)

    def _run(self, jobs: Sequence[Job], done: Done, stepped: Stepped, locks: RunLocks) -> None:
        main = is_main()
        for job in jobs:
            own = job if main else _without_files(job)

            def tick(steps: int) -> None:
                if main:
                    stepped(steps)

            try:
                other = computed_by_main(partial(_taken, locks, job))
                if other is not None:
                    if main:
                        done(job, other)
                        locks.release(job)
                    continue
                record = attempt(lambda job, parallel: execute(job, tick, parallel), own, 1)
            except RunFailedError as error:
                if main:
                    done(job, error)
                    locks.release(job)
                if launched():
                    raise
                continue
            if main:
                done(job, record)
                locks.release(job)


def _taken(locks: RunLocks, job: Job) -> Record | BusyRunError | None:
    """Lock a run; return None to run it, or why not."""
    try:
        return locks.take(job)
    except BusyRunError as error:
        return error


def _without_files(job: Job) -> Job:
    """The same run, which writes no file."""
    where = replace(job.config.where, loggers=(), keep_weights=False)
    return replace(job, config=replace(job.config, where=where))
