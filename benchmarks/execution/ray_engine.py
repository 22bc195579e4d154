"""A sweep's runs on a Ray cluster."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.execution.pool import (
        Done,
        Work,
    )
    from benchmarks.execution.tasks import (
        Task,
    )
    from benchmarks.results.record import (
        Record,
    )

RETRIES = 3
ROOT = Path(__file__).parents[2]


def _run_one(task: Task, jobs: int) -> Record:
    from benchmarks.execution.tasks import (
        execute,
    )

    return execute(task, None, jobs)


def _in_worker(work: Work, task: Task, cpus: int, jobs: int, command: list[str]) -> Record:
    import torch

    from benchmarks.execution.tasks import (
        tried,
    )

    sys.argv = command  # for the record: what was asked for, not how Ray starts its workers
    torch.set_num_threads(cpus)  # numbers depend on it, so not what the machine has
    return tried(work, task, jobs)


def run_on_ray(
    tasks: Sequence[Task],
    cpus: int,
    gpus: float,
    address: str | None,
    done: Done,
    work: Work = _run_one,
) -> None:
    """Run every task on a cluster; one whose worker dies runs again, elsewhere if need be.

    Records come back to this process, which writes them, so that nodes need no common folder;
    the code and the data must be on every node, at the same paths.

    Args:
        tasks: what to run.
        cpus: of each run.
        gpus: of each run; a fraction shares one.
        address: of the cluster; None starts one on this machine, for as long as the sweep takes.
        done: called as each ends, with its record or what went wrong.
        work: makes one task's record.

    Raises:
        ImportError: when Ray is not installed.
        ValueError: when the cluster could never run a task.
    """
    try:
        import ray
    except ImportError as error:
        raise ImportError(
            "--engine ray needs Ray: pip install 'avalanche-proxyfda[ray]'"
        ) from error
    # a Ray of our own is there for the runs: they need not give way, as Ray's workers do
    os.environ.setdefault("RAY_worker_niceness", "0")
    started = not ray.is_initialized()
    if started:
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        ray.init(
            address=address or "local", log_to_driver=False, include_dashboard=False,
            runtime_env={"env_vars": {"PYTHONPATH": path, "TQDM_DISABLE": "1"}},
        )  # fmt: skip
    try:
        _run(ray, tasks, cpus, gpus, done, work)
    finally:
        if started:
            ray.shutdown()


def _run(ray: Any, tasks: Sequence[Task], cpus: int, gpus: float, done: Done, work: Work) -> None:
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(n.get("CPU", 0) >= cpus and n.get("GPU", 0) >= gpus for n in nodes):
        most = max((n.get("CPU", 0) for n in nodes), default=0)
        raise ValueError(
            f"cpus={cpus} gpus={gpus:g}: no node of the cluster has as many (the largest has "
            f"{most:g} CPUs); lower them in the matrix"
        )
    jobs = max(int(n.get("CPU", 0) // cpus) for n in nodes)  # at a time on the largest node
    remote = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=RETRIES)(_in_worker)
    left = {remote.remote(work, task, cpus, jobs, sys.argv): task for task in tasks}
    try:
        while left:
            ended, _ = ray.wait(list(left), num_returns=1, timeout=1)
            for reference in ended:
                task = left.pop(reference)
                try:
                    found: Any = ray.get(reference)
                except ray.exceptions.RayTaskError as error:
                    found = error.cause or error  # what the run itself raised, as text
                except (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError,
                        ray.exceptions.NodeDiedError) as error:  # fmt: skip
                    found = RuntimeError(
                        f"its worker died {RETRIES + 1} times: killed, or out of memory ({error})"
                    )
                except ray.exceptions.RayError as error:
                    found = error
                done(task, found)
    finally:
        for reference in left:  # Ctrl-C: nobody waits for them any more
            ray.cancel(reference, force=True)
