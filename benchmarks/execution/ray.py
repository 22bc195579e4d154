"""The executor of a Ray cluster."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.execution.executor import Done, Stepped, execute
from benchmarks.execution.failure import Work, attempt
from benchmarks.execution.job import Job
from benchmarks.execution.locks import RunLocks
from benchmarks.results.record import Record

RETRIES = 3
ROOT = Path(__file__).parents[2]


def _run_one(job: Job, parallel: int) -> Record:
    return execute(job, None, parallel)


def _in_worker(work: Work, job: Job, cpus: int, parallel: int, command: list[str]) -> Record:
    sys.argv = command  # for the record: the user's command, not how Ray starts its workers
    torch.set_num_threads(cpus)  # numbers depend on it, so not the machine's count
    locks = RunLocks([job])  # of use where nodes share the folder
    try:
        made = locks.take(job)
        return attempt(work, job, parallel) if made is None else made
    finally:
        locks.release(job)


@dataclass(frozen=True)
class RayExecutor:
    """Runs jobs on a cluster; a job whose worker dies runs again, on another node if need be.

    Records come back to this process, which writes them, so nodes need no common folder. The
    code and the data must be on every node, at the same paths.

    Attributes:
        cpus: cores of each run.
        gpus: GPUs of each run; a fraction shares one.
        address: address of the cluster; None starts one on this machine, and stops it.
        work: makes one job's record.
        parallel: for the records of failed runs; a run's own record holds the node's number.
    """

    cpus: int = 1
    gpus: float = 0
    address: str | None = None
    work: Work = _run_one
    parallel: int = 1

    def run(self, jobs: Sequence[Job], done: Done, stepped: Stepped) -> None:
        """Run every job; see :class:`~benchmarks.execution.executor.Executor`.

        ``stepped`` is not called: steps are counted on other machines.

        Raises:
            ImportError: when Ray is not installed.
            ValueError: when no node of the cluster could run a job.
        """
        if not jobs:
            return
        try:
            import ray
        except ImportError as error:
            raise ImportError(
                "--engine ray needs Ray: pip install 'avalanche-proxyfda[ray]'"
            ) from error
        # Ray gives its workers a low priority; here the runs are what the machine is for
        os.environ.setdefault("RAY_worker_niceness", "0")
        started = not ray.is_initialized()
        if started:
            path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
            ray.init(
                address=self.address or "local",
                log_to_driver=False,
                include_dashboard=False,
                runtime_env={"env_vars": {"PYTHONPATH": path, "TQDM_DISABLE": "1"}},
            )
        try:
            self._run(ray, jobs, done)
        finally:
            if started:
                ray.shutdown()

    def _run(self, ray: Any, jobs: Sequence[Job], done: Done) -> None:
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        if not any(n.get("CPU", 0) >= self.cpus and n.get("GPU", 0) >= self.gpus for n in nodes):
            most = max((n.get("CPU", 0) for n in nodes), default=0)
            raise ValueError(
                f"cpus={self.cpus} gpus={self.gpus:g}: no node of the cluster has as many (the "
                f"largest has {most:g} CPUs); lower them in the matrix"
            )
        # runs at a time on the largest node
        parallel = max(int(n.get("CPU", 0) // self.cpus) for n in nodes)
        remote = ray.remote(num_cpus=self.cpus, num_gpus=self.gpus, max_retries=RETRIES)(_in_worker)
        left = {remote.remote(self.work, job, self.cpus, parallel, sys.argv): job for job in jobs}
        try:
            while left:
                ended, _ = ray.wait(list(left), num_returns=1, timeout=1)
                for reference in ended:
                    done(left.pop(reference), _outcome(ray, reference))
        finally:
            for reference in left:  # Ctrl-C
                ray.cancel(reference, force=True)


def _outcome(ray: Any, reference: Any) -> Record | BaseException:
    """The record of a job that has ended, or its error."""
    try:
        record: Record = ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        cause: BaseException = error.cause or error  # the run's own error, as text
        return cause
    except (
        ray.exceptions.WorkerCrashedError,
        ray.exceptions.OutOfMemoryError,
        ray.exceptions.NodeDiedError,
    ) as error:
        return RuntimeError(
            f"its worker died {RETRIES + 1} times: killed, or out of memory ({error})"
        )
    except ray.exceptions.RayError as error:
        cause = error
        return cause
    return record
