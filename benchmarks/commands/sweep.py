"""``python -m benchmarks sweep``: all runs of a matrix that are not there yet."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.execution.tasks import (
        Task,
    )
    from benchmarks.results.record import (
        Record,
    )


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of ``python -m benchmarks sweep``."""
    parser.add_argument(
        "--matrix", required=True, metavar="FILE",
        help="YAML: streams, methods, seeds, strengths; from here or from benchmarks/sweeps/",
    )  # fmt: skip
    parser.add_argument(
        "--out", type=Path, default=None, help="folder of the records; default: runs/MATRIX"
    )
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, engine local")
    parser.add_argument(
        "--engine", choices=("local", "ray"), default="local",
        help="processes of this machine, or a Ray cluster",
    )  # fmt: skip
    parser.add_argument(
        "--address", default=None, help="of the Ray cluster; default: one on this machine"
    )
    parser.add_argument(
        "--retry-failed", action="store_true",
        help="run again what failed, and what has a file that is no valid record",
    )  # fmt: skip
    parser.add_argument("--list", action="store_true", help="number the runs, and stop")
    parser.add_argument(
        "--task", type=int, default=None, metavar="N",
        help="only the run with this number, in this process: for a job array",
    )  # fmt: skip


def state_of(task: Task) -> str:
    """``finished``, ``failed``, ``absent``, or ``refused: REASON``."""
    from benchmarks.results.files import (
        RefusedRecordError,
    )

    try:
        record = task.found()
    except RefusedRecordError as error:
        return f"refused: {error}"
    return "absent" if record is None else record.status


def due(tasks: Sequence[Task], states: Sequence[str], retry: bool) -> list[Task]:
    """The tasks to run: those without a record, and when asked those that failed."""
    wanted = []
    for task, state in zip(tasks, states, strict=True):
        if state == "absent" or (retry and state != "finished"):
            wanted.append(task)
        elif state.startswith("refused"):
            print(f"{task.file}: {state}; --retry-failed runs it again")
    return wanted


def main(args: argparse.Namespace) -> int:
    """Run what is due; 0 if every run of the matrix is finished then."""
    from benchmarks.commands.run import (
        check_folder,
    )
    from benchmarks.execution.matrix import (
        load_matrix,
        tasks_of,
        with_steps,
    )
    from benchmarks.execution.sweep_progress import (
        Progress,
    )
    from benchmarks.execution.tasks import (
        Settler,
    )

    if args.jobs < 1:
        raise ValueError(f"--jobs {args.jobs}: at least one")
    if args.address is not None and args.engine != "ray":
        raise ValueError("--address is of a Ray cluster: say --engine ray")
    matrix = load_matrix(args.matrix)
    out = args.out or Path("runs") / Path(args.matrix).stem
    tasks = tasks_of(matrix, out)
    if args.list:
        for number, task in enumerate(tasks):
            print(f"{number:4d}  {task.folder.name}  {task.about}: {state_of(task)}")
        return 0
    check_folder(out)
    if args.task is not None:
        return _one(tasks, args.task, matrix.cpus, args.retry_failed)
    before = [state_of(task) for task in tasks]
    wanted = {task.file: task for task in with_steps(due(tasks, before, args.retry_failed))}
    states = [
        "left" if t.file in wanted else "kept" if state == "finished" else "failed"
        for t, state in zip(tasks, before, strict=True)
    ]
    tasks = [wanted.get(task.file, task) for task in tasks]
    told = f"{len(tasks)} runs, of which {states.count('kept')} are finished"
    if states.count("failed"):
        told += f" and {states.count('failed')} failed: --retry-failed runs those again"
    print(f"{told}; records go to {out}/.", flush=True)
    jobs = args.jobs if args.engine == "local" else 1
    began = time.monotonic()
    settle = Settler(jobs)
    with Progress(tasks, states) as progress:

        def done(task: Task, found: Record | BaseException) -> None:
            progress.ended(task, settle(task, found))

        todo = list(wanted.values())
        try:
            if args.engine == "ray" and todo:
                from benchmarks.execution.ray_engine import (
                    run_on_ray,
                )

                run_on_ray(todo, matrix.cpus, matrix.gpus, args.address, done)
            elif todo:
                from benchmarks.execution.pool import (
                    run_all,
                )

                run_all(todo, jobs, matrix.cpus, done, progress.stepped)
        except KeyboardInterrupt:
            print("\nStopped. What is finished is written; the same command goes on from there.")
            return 130
        finally:
            settle.finish()
    states = [state_of(task) for task in tasks]
    print(
        f"{states.count('finished')} of {len(tasks)} runs are finished. "
        f"Took {time.monotonic() - began:.0f} s."
    )
    for task, state in zip(tasks, states, strict=True):
        if state != "finished":
            reason = ""
            if state == "failed":
                record = task.found()
                reason = f": {record.reason}" if record is not None else ""
            print(f"  {task.about}: {state}{reason}")
    print(f"python -m benchmarks board {out} draws them.")
    return int(states.count("finished") < len(tasks))


def _one(tasks: Sequence[Task], number: int, cpus: int, retry: bool) -> int:
    """One run, here: what an array job calls."""
    import torch

    from benchmarks.execution.tasks import (
        Settler,
        execute,
    )

    if not 0 <= number < len(tasks):
        raise ValueError(f"--task {number}: the sweep has runs 0 to {len(tasks) - 1}")
    task = tasks[number]
    state = state_of(task)
    if state != "absent" and not (retry and state != "finished"):
        print(f"{task.about}: {state} already.")
        return int(state != "finished")
    torch.set_num_threads(cpus)
    try:
        found: Record | BaseException = execute(task)
    except Exception as error:
        found = error
    settle = Settler()
    record = settle(task, found)
    settle.finish()
    print(f"{task.about}: {record.status}; {task.file}")
    return int(record.status != "finished")
