"""Runs the matrix of ``python -m benchmarks sweep``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.execution.executor import Executor
from benchmarks.execution.fitted import fitted
from benchmarks.execution.job import Job
from benchmarks.execution.launcher import launch
from benchmarks.execution.local import LocalExecutor
from benchmarks.execution.matrix import Matrix
from benchmarks.execution.plan import known_steps
from benchmarks.execution.policy import check_folder, policy_of
from benchmarks.execution.ray import RayExecutor
from benchmarks.execution.settle import widen_selection
from benchmarks.execution.stopping import typed
from benchmarks.execution.torchrun import TorchrunExecutor


def on_this_machine(planned: Sequence[Job]) -> list[Job]:
    """Jobs with the precision that ``train.precision=auto`` means on this machine.

    Args:
        planned: jobs, as the configurations say them.

    Raises:
        ValueError: see :func:`~benchmarks.execution.fitted.fitted`.
    """
    return fitted(planned)


def run_sweep(args: argparse.Namespace, matrix: Matrix, planned: Sequence[Job], out: Path) -> int:
    """Run what is due.

    Args:
        args: options of the command.
        matrix: the matrix of the sweep.
        planned: all jobs of the matrix, as the configurations say them.
        out: folder of the records.

    Returns:
        0 if every run that was asked for is finished then.

    Raises:
        ValueError: when a plugin refuses its strength or its options.
        OSError: when nothing can be written to ``out``.
    """
    executor: Executor = LocalExecutor(args.jobs, matrix.cpus)
    if args.engine == "ray":
        executor = RayExecutor(matrix.cpus, matrix.gpus, args.address)
    jobs = fitted(planned)
    check_folder(out)
    if args.task is not None:
        torch.set_num_threads(matrix.cpus)
        return _one(args, jobs, out)
    end = launch(known_steps(jobs), out, executor, policy_of(args))
    if end.records:
        print(f"To draw the records as one page:\n{typed('board', out)}")
    return end.status


def _one(args: argparse.Namespace, jobs: Sequence[Job], out: Path) -> int:
    """Run one job in this process, for an array job."""
    (job,), policy = known_steps(jobs[args.task : args.task + 1]), policy_of(args)
    state = job.state()
    if not policy.is_due(state):
        if state == "finished":
            widen_selection(job)
        print(f"{job.about}: {state} already.")
        return int(state != "finished")
    end = launch([job], out, TorchrunExecutor(), policy)
    print(f"{job.about}: {job.state()}; {job.file}")
    return end.status
