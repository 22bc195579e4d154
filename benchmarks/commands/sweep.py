"""``python -m benchmarks sweep``: all runs of a matrix that are not there yet."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

from avalanche_proxyfda._files import expanded
from benchmarks.execution.executor import Executor
from benchmarks.execution.job import Job
from benchmarks.execution.launcher import add_policy, check_folder, launch, policy_of
from benchmarks.execution.local import LocalExecutor
from benchmarks.execution.matrix import jobs_of, load_matrix
from benchmarks.execution.plan import known_steps
from benchmarks.execution.ray import RayExecutor
from benchmarks.execution.stopping import typed
from benchmarks.execution.torchrun import TorchrunExecutor


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of ``python -m benchmarks sweep``."""
    parser.add_argument(
        "--matrix",
        required=True,
        metavar="FILE",
        help="YAML: streams, methods, seeds, strengths; from here or from benchmarks/sweeps/",
    )
    parser.add_argument(
        "--out", type=expanded, default=None, help="folder of the records; default: runs/MATRIX"
    )
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, engine local")
    parser.add_argument(
        "--engine",
        choices=("local", "ray"),
        default="local",
        help="processes of this machine, or a Ray cluster",
    )
    parser.add_argument(
        "--address", default=None, help="address of the Ray cluster; default: one on this machine"
    )
    add_policy(parser, retry_failed=False)
    parser.add_argument(
        "--list", action="store_true", help="number the runs, and stop; no image is read"
    )
    parser.add_argument(
        "--task",
        type=int,
        default=None,
        metavar="N",
        help="only the run with this number, in this process: for a job array",
    )


def main(args: argparse.Namespace) -> int:
    """Run what is due; 0 if every run of the matrix is finished then."""
    if args.address is not None and args.engine != "ray":
        raise ValueError("--address is of a Ray cluster: say --engine ray")
    matrix = load_matrix(args.matrix)
    executor: Executor = LocalExecutor(args.jobs, matrix.cpus)
    if args.engine == "ray":
        executor = RayExecutor(matrix.cpus, matrix.gpus, args.address)
    out = args.out or Path("runs") / Path(args.matrix).stem
    jobs = jobs_of(matrix, out)
    if args.list:
        for number, job in enumerate(jobs):
            print(f"{number:4d}  {job.folder.name}  {job.about}: {job.state()}")
        return 0
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
    if not 0 <= args.task < len(jobs):
        raise ValueError(f"--task {args.task}: the sweep has runs 0 to {len(jobs) - 1}")
    (job,), policy = known_steps(jobs[args.task : args.task + 1]), policy_of(args)
    state = job.state()
    if not policy.is_due(state):
        print(f"{job.about}: {state} already.")
        return int(state != "finished")
    end = launch([job], out, TorchrunExecutor(), policy)
    print(f"{job.about}: {job.state()}; {job.file}")
    return end.status
