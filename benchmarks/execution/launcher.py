"""The one launcher: which jobs are due, how they run, settle and are reported."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from avalanche_proxyfda.checkpoint import clean
from avalanche_proxyfda.distributed.group import EndOfAllRanks
from benchmarks.execution.display import Display
from benchmarks.execution.executor import Executor
from benchmarks.execution.job import Job
from benchmarks.execution.locks import BusyRunError, idle
from benchmarks.execution.policy import Policy
from benchmarks.execution.settle import Settler, widen_selection
from benchmarks.execution.stopping import status_of, stopped
from benchmarks.execution.torchrun import decided_by_main
from benchmarks.experiment.ranks import is_main, launched
from benchmarks.results.record import Record


@dataclass(frozen=True)
class Launched:
    """The end of a launch.

    Attributes:
        records: the record of each finished run, in the order of the jobs; empty on ranks other
            than 0.
        status: exit status: 0 if every run is finished, 1 if not, 130 after Ctrl-C, 143 after
            SIGTERM.
    """

    records: tuple[Record, ...]
    status: int


def launch(
    jobs: Sequence[Job],
    out: Path,
    executor: Executor,
    policy: Policy,
) -> Launched:
    """Run the jobs that are due, write their records, and report.

    Under torchrun rank 0 decides which jobs are due, writes the records and reports.

    Args:
        jobs: all jobs, finished ones included, with the images of their streams.
        out: folder of the records, for the messages.
        executor: runs the jobs that are due.
        policy: which jobs are due.

    Raises:
        OSError: when a record cannot be written at the end either.
        RunFailedError: when a run raised an error on one of several ranks.
        SystemExit: when a signal ended one of several ranks, and not all together.
    """
    started = time.monotonic()
    states = decided_by_main(lambda: [job.state() for job in jobs])
    if is_main() and not policy.resume:
        for job in jobs:
            with idle(job) as free:
                if free:
                    clean(job.checkpoint)
    due = [job for job, state in zip(jobs, states, strict=True) if policy.is_due(state)]
    left = {job.file for job in due}
    kept = [(job, s) for job, s in zip(jobs, states, strict=True) if job.file not in left]
    if is_main():
        for job, state in kept:
            if state == "finished":
                widen_selection(job)
    _announce(len(jobs), due, kept, out)
    settle = Settler(executor.parallel)
    display = Display(jobs, due)

    def done(job: Job, outcome: Record | BaseException) -> None:
        if isinstance(outcome, BusyRunError):
            busy.add(job.file)
            print(f"{outcome}: skipped", flush=True)
            display.skipped(job)
        else:
            display.ended(job, settle(job, outcome))

    busy: set[Path] = set()
    interrupted = 0
    try:
        with display:
            executor.run(due, done, display.stepped)
    except (KeyboardInterrupt, SystemExit) as error:
        interrupted = status_of(error)
        print(f"\n{stopped(policy.resume)}", flush=True)
        if launched() and not isinstance(error, EndOfAllRanks):
            raise SystemExit(interrupted) from None  # the other ranks may still train
    finally:
        settle.finish()
    if not is_main():
        return Launched((), interrupted)
    ends = [settle.records.get(job.file) if job.file in left else job.finished() for job in jobs]
    finished = tuple(end for end in ends if end is not None and end.status == "finished")
    if interrupted:
        return Launched(finished, interrupted)
    print(
        f"{len(finished)} of {_runs(len(jobs))} {_are(len(finished))} finished. "
        f"Took {time.monotonic() - started:.0f} s."
    )
    for job, end in zip(jobs, ends, strict=True):
        if end is None or end.status != "finished":
            why = "another process trains it" if job.file in busy else _why(job, end)
            print(f"  {job.about}: {why}")
    return Launched(finished, int(len(finished) < len(jobs)))


def _announce(count: int, due: Sequence[Job], kept: Sequence[tuple[Job, str]], out: Path) -> None:
    """Say how many runs there are, and which do not run."""
    states = [state for _, state in kept]
    finished, failed = states.count("finished"), states.count("failed")
    steps = sum(job.steps for job in due)
    text = f"{_runs(count)}, of which {finished} {_are(finished)} finished"
    if steps:
        text += f"; {steps} {'step' if steps == 1 else 'steps'} {_are(steps)} due"
    print(f"{text}; records go to {out}/.", flush=True)
    if finished:
        again = f"--no-resume runs {_them(finished)} again"
        print(f"{finished} {_are(finished)} finished and kept; {again}.", flush=True)
    if failed:
        print(f"{failed} failed: --retry-failed runs {_them(failed)} again.", flush=True)
    if any(job.config.train.compile for job in due):
        print(
            "train.compile=true: the first step and the first evaluation of a run compile the "
            "image tower. The bar may stand still for minutes there.",
            flush=True,
        )
    for job, state in kept:
        if state.startswith("refused"):
            print(f"{job.file}: {state}; --retry-failed runs it again", flush=True)


def _runs(count: int) -> str:
    return f"{count} run" if count == 1 else f"{count} runs"


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def _them(count: int) -> str:
    return "it" if count == 1 else "them"


def _why(job: Job, end: Record | None) -> str:
    """Why a job has no finished run: its state, or the reason of the failed run."""
    if end is None and job.state() == "failed":  # at an earlier time
        end = job.record()
    return job.state() if end is None else f"{end.status}: {end.reason}"
