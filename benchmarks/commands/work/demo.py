"""Runs the paths of ``python -m benchmarks demo``."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace

from benchmarks.board.table import table
from benchmarks.board.write import write_board
from benchmarks.config import changed
from benchmarks.execution.fitted import fitted
from benchmarks.execution.job import Job
from benchmarks.execution.launcher import launch
from benchmarks.execution.local import LocalExecutor
from benchmarks.execution.plan import known_steps
from benchmarks.execution.policy import check_folder, policy_of
from benchmarks.execution.stopping import INTERRUPTED
from benchmarks.methods.plugins import arguments_of
from benchmarks.results.files import collect
from benchmarks.results.settings import rows_of


def run_demo(args: argparse.Namespace, planned: Sequence[Job]) -> int:
    """Run the paths, print the table, write the board.

    Args:
        args: options of the command.
        planned: jobs of the paths, as the configurations say them.

    Returns:
        0 if every run finished.

    Raises:
        ValueError: when a plugin refuses its strength or its options.
        OSError: when nothing can be written to ``--out``.
    """
    executor = LocalExecutor(args.jobs, 1)
    if args.neighbors is not None:
        methods = dict.fromkeys(job.config.method for job in planned)
        if not any("num_neighbors" in arguments_of(method) for method in methods):
            raise ValueError(
                f"--neighbors {args.neighbors}: no neighbour graph in {', '.join(methods)}; drop "
                "--neighbors"
            )
        planned = list(_with_neighbors(planned, args.neighbors))
    jobs = known_steps(fitted(planned))
    check_folder(args.out)
    sets, panel = " -> ".join(args.sequence), ", ".join(args.panel)
    print(f"{len(jobs)} runs that learn {sets}; panel: {panel}.", flush=True)
    end = launch(jobs, args.out, executor, policy_of(args))
    if end.records:
        print(table(rows_of(end.records)))
    files = [job.file for job in jobs if job.file.is_file()]
    if end.status not in INTERRUPTED and files:
        page = write_board(collect(files), args.out / "board", args.seeds)
        print(f"\nEach run's record is in {args.out}/. All of it, run by run, to look at:\n{page}")
    return end.status


def _with_neighbors(jobs: Sequence[Job], count: int) -> Iterator[Job]:
    """Yield the jobs, with ``count`` neighbours in each method on a neighbour graph."""
    for job in jobs:
        if "num_neighbors" in arguments_of(job.config.method):
            options = {**job.config.options, "num_neighbors": count}
            job = replace(job, config=changed(job.config, options=options))
        yield job
