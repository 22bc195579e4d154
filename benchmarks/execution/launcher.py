"""The one launcher: which jobs are due, how they run, settle and are reported."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from avalanche_proxyfda.checkpoint import clean
from benchmarks.execution.display import Display
from benchmarks.execution.executor import Executor
from benchmarks.execution.job import Job
from benchmarks.execution.settle import Settler
from benchmarks.experiment.ranks import is_main
from benchmarks.results.record import Record

INTERRUPTED = 130


@dataclass(frozen=True)
class Policy:
    """Which jobs of an earlier time run again.

    Attributes:
        resume: keep finished records whose method still has their version, and go on from the
            checkpoints of killed runs; otherwise every job begins anew.
        retry_failed: run failed jobs again, and those whose file is no valid record.
    """

    resume: bool = True
    retry_failed: bool = True

    def is_due(self, state: str) -> bool:
        """Whether a job in ``state`` (see :meth:`~benchmarks.execution.job.Job.state`) runs."""
        if not self.resume or state in ("absent", "stale"):
            return True
        return state != "finished" and self.retry_failed


def add_policy(parser: argparse.ArgumentParser, retry_failed: bool) -> None:
    """Declare ``--resume`` and ``--retry-failed``, which demo, run and sweep share.

    Args:
        parser: parser of the command.
        retry_failed: default of ``--retry-failed``.
    """
    yes_or_no = argparse.BooleanOptionalAction
    parser.add_argument(
        "--resume",
        action=yes_or_no,
        default=True,
        help="keep finished runs and resume killed ones (the default), or begin anew",
    )
    parser.add_argument(
        "--retry-failed",
        action=yes_or_no,
        default=retry_failed,
        help="run failed runs again, and those whose file is no valid record; default: "
        + ("yes" if retry_failed else "no"),
    )


def policy_of(args: argparse.Namespace) -> Policy:
    """The policy that the options of :func:`add_policy` say."""
    return Policy(args.resume, args.retry_failed)


def check_folder(out: Path) -> None:
    """Try to write to ``out`` now, not after the first run.

    Raises:
        OSError: when nothing can be written there.
    """
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=out):
        pass


@dataclass(frozen=True)
class Launched:
    """The end of a launch.

    Attributes:
        records: the record of each finished run, in the order of the jobs.
        status: exit status: 0 if every run is finished, 1 if not, 130 after Ctrl-C.
    """

    records: tuple[Record, ...]
    status: int


def launch(
    jobs: Sequence[Job],
    out: Path,
    executor: Executor,
    policy: Policy,
    with_steps: Callable[[Sequence[Job]], list[Job]] = list,
) -> Launched:
    """Run the jobs that are due, write their records, and report.

    Args:
        jobs: all jobs, finished ones included.
        out: folder of the records, for the messages.
        executor: runs the jobs that are due.
        policy: which jobs are due.
        with_steps: fills in the steps of the jobs that are due.

    Raises:
        OSError: when a record cannot be written at the end either.
    """
    started = time.monotonic()
    states = [job.state() for job in jobs]
    if is_main() and not policy.resume:
        for job in jobs:
            clean(job.checkpoint)
    due = [job for job, state in zip(jobs, states, strict=True) if policy.is_due(state)]
    due = with_steps(due)
    _announce(jobs, states, due, out, policy)
    settle = Settler(executor.parallel)
    display = Display(jobs, due)

    def done(job: Job, outcome: Record | BaseException) -> None:
        display.ended(job, settle(job, outcome))

    interrupted = False
    try:
        with display:
            executor.run(due, done, display.stepped)
    except KeyboardInterrupt:
        interrupted = True
        print("\nStopped. What is finished is written; the same command goes on from there.")
    finally:
        settle.finish()
    if interrupted:
        return Launched(_finished(jobs), INTERRUPTED)
    finished = _finished(jobs)
    if is_main():
        _report(jobs, finished, time.monotonic() - started)
    return Launched(finished, int(is_main() and len(finished) < len(jobs)))


def _finished(jobs: Sequence[Job]) -> tuple[Record, ...]:
    return tuple(record for job in jobs if (record := job.finished()) is not None)


def _announce(
    jobs: Sequence[Job], states: Sequence[str], due: Sequence[Job], out: Path, policy: Policy
) -> None:
    """Say how many runs there are, and which do not run."""
    steps = sum(job.steps for job in due)
    print(f"{len(jobs)} runs, {steps} steps in all; records go to {out}/.", flush=True)
    running = {job.file for job in due}
    for job, state in zip(jobs, states, strict=True):
        if state.startswith("refused") and job.file not in running:
            print(f"{job.file}: {state}; --retry-failed runs it again")
    kept = states.count("finished") if policy.resume else 0
    if kept:
        print(f"{kept} are finished and kept; --no-resume runs them again.", flush=True)
    failed = sum(
        state == "failed" and job.file not in running
        for job, state in zip(jobs, states, strict=True)
    )
    if failed:
        print(f"{failed} failed: --retry-failed runs those again.", flush=True)


def _report(jobs: Sequence[Job], finished: Sequence[Record], seconds: float) -> None:
    """Say how many runs are finished, and why the others are not."""
    print(f"{len(finished)} of {len(jobs)} runs are finished. Took {seconds:.0f} s.")
    for job in jobs:
        if job.finished() is None:
            state = job.state()
            record = job.record() if state == "failed" else None
            print(f"  {job.about}: {state}" + (f": {record.reason}" if record else ""))
