"""``python -m benchmarks sweep``: all runs of a matrix that are not there yet."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from avalanche_proxyfda._files import expanded
from benchmarks.commands import work
from benchmarks.config import changed
from benchmarks.execution.job import Job
from benchmarks.execution.matrix import jobs_of, load_matrix
from benchmarks.execution.policy import add_policy, check_parallel


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of ``python -m benchmarks sweep``."""
    parser.add_argument(
        "--matrix",
        required=True,
        metavar="FILE",
        help="YAML file of the matrix, by its path or by its name in benchmarks/sweeps",
    )
    parser.add_argument(
        "--out", type=expanded, default=None, help="folder of the records; default: runs/MATRIX"
    )
    parser.add_argument(
        "--jobs",
        type=int,
        default=1,
        help="number of runs at a time of the engine local; default: 1",
    )
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
        "--list",
        action="store_true",
        help="list the runs with their numbers, and stop; no image is read",
    )
    parser.add_argument(
        "--task",
        type=int,
        default=None,
        metavar="N",
        help="run the one with this number alone, in this process, as a job array does",
    )


def main(args: argparse.Namespace) -> int:
    """Run what is due; 0 if every run of the matrix is finished then."""
    if args.address is not None and args.engine != "ray":
        raise ValueError("--address is of a Ray cluster: say --engine ray")
    if args.task is not None and args.engine == "ray":
        raise ValueError(f"--engine ray: --task {args.task} runs in this process; drop one of them")
    if args.jobs > 1 and (args.task is not None or args.engine == "ray"):
        reason = "Ray decides" if args.task is None else f"--task {args.task} is one run"
        raise ValueError(f"--jobs {args.jobs}: {reason}; drop --jobs")
    matrix = load_matrix(args.matrix)
    check_parallel(args.jobs)
    out = args.out or Path("runs") / Path(args.matrix).stem
    jobs = jobs_of(matrix, out)
    if args.list:
        return _list(jobs)
    if args.task is not None and not 0 <= args.task < len(jobs):
        raise ValueError(f"--task {args.task}: the sweep has runs 0 to {len(jobs) - 1}")
    return work.run_sweep(args, matrix, jobs, out)


def _list(jobs: Sequence[Job]) -> int:
    """Number the jobs, with their states; plugins, devices and images are not looked at."""
    if not all(map(_is_known, jobs)):
        jobs = work.on_this_machine(jobs)
    for number, job in enumerate(jobs):
        print(f"{number:4d}  {job.folder.name}  {job.about}: {job.state()}")
    return 0


def _is_known(job: Job) -> bool:
    """Return True if the state of a job is the same with either precision of ``auto``."""
    train = job.config.train
    if train.precision != "auto":
        return True
    either = [
        changed(job.config, train=replace(train, precision=name)) for name in ("float32", "bf16")
    ]
    return len({replace(job, config=config).state() for config in either}) == 1
