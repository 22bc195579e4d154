"""Runs under torchrun: one run at a time, on all ranks together; rank 0 writes and speaks."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from tqdm import tqdm

if TYPE_CHECKING:
    from benchmarks.config import Config
    from benchmarks.execution.tasks import (
        Task,
    )
    from benchmarks.results.record import (
        Record,
    )

T = TypeVar("T")


def launched() -> bool:
    """Whether torchrun started this process."""
    return "LOCAL_RANK" in os.environ and "WORLD_SIZE" in os.environ


def refuse(job: str) -> None:
    """Raise ValueError when a job that knows nothing of ranks is started by torchrun."""
    if launched() and job != "run":
        raise ValueError(
            f"python -m benchmarks {job} cannot be started by torchrun: each rank would do all of "
            "it; only run can"
        )


@contextmanager
def joined(configs: Sequence[Config], jobs: int) -> Iterator[None]:
    """Join the other ranks, if torchrun started this process; only rank 0 prints from then on.

    Raises:
        ValueError: for several runs at a time, or a device that is not each rank's own.
    """
    if not launched():
        yield
        return
    from avalanche_proxyfda.distributed import process_group

    if jobs > 1:
        raise ValueError(f"--jobs {jobs}: under torchrun all ranks work on one run at a time")
    devices = {config.where.device for config in configs}
    if len(devices) > 1:
        raise ValueError(f"where.device differs between runs of one torchrun: {sorted(devices)}")
    with process_group(devices.pop()):
        if os.environ["RANK"] != "0":
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115 (until the process ends)
        yield


def first_on_machine(work: Callable[[], T]) -> T:
    """``work`` on each machine's first rank, then on the others: archives are unpacked once."""
    if not launched():
        return work()
    from torch import distributed

    first = os.environ["LOCAL_RANK"] == "0"
    found = work() if first else None
    _wait(distributed)
    return found if first else work()  # type: ignore[return-value]


def _wait(distributed: Any) -> None:
    distributed.all_gather_object([None] * distributed.get_world_size(), None)


def is_main() -> bool:
    """Whether this process writes records."""
    return not launched() or os.environ["RANK"] == "0"


def plugins() -> list[Any]:
    """What a strategy needs first to be spread over ranks."""
    from avalanche_proxyfda.distributed import DistributedTraining

    return [DistributedTraining()] if launched() else []


def count() -> int:
    """Processes that share a run."""
    return int(os.environ["WORLD_SIZE"]) if launched() else 1


def run_here(tasks: Sequence[Task], done: Callable[[Task, Record | BaseException], object]) -> None:
    """Run tasks one after the other in this process, as every other rank does.

    An error ends it: the other ranks may have none, and would wait for ever.

    Args:
        tasks: what to run.
        done: called on rank 0 as each ends.

    Raises:
        benchmarks.execution.tasks.RunFailedError: what a run raised.
    """
    from benchmarks.execution.tasks import (
        RunFailedError,
        execute,
        tried,
    )

    main = is_main()
    with tqdm(
        total=sum(task.steps for task in tasks), desc="steps", unit="step", mininterval=2,
        disable=not main,
    ) as bar:  # fmt: skip
        for task in tasks:
            own = task if main else _silent(task)
            try:
                record = tried(lambda t, jobs: execute(t, bar.update, jobs), own, 1)
            except RunFailedError as error:
                if main:
                    done(task, error)
                raise
            if main:
                done(task, record)


def _silent(task: Task) -> Task:
    """The same run, of which nothing is written."""
    where = replace(task.config.where, loggers=(), keep_weights=False)
    return replace(task, config=replace(task.config, where=where))
