"""The executor of one machine: several runs at once, each in a process of its own."""

from __future__ import annotations

import multiprocessing as mp
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.managers import SyncManager
from queue import SimpleQueue
from typing import Any

import torch

from benchmarks.execution.executor import Done, Stepped, execute
from benchmarks.execution.failure import RunFailedError, Work, attempt
from benchmarks.execution.job import Job
from benchmarks.execution.locks import RunLocks
from benchmarks.execution.orphans import end_with_parent
from benchmarks.execution.policy import check_parallel
from benchmarks.results.record import Record

_ticks: Any = None
_PATIENCE = 20  # seconds in which a process may end by itself


def _start(ticks: Any, threads: int | None) -> None:
    global _ticks
    end_with_parent()
    if threads is not None:
        torch.set_num_threads(threads)
    _ticks = ticks


def _tick(steps: int) -> None:
    with suppress(ConnectionError, EOFError):  # the parent has ended: the count is not needed
        _ticks.put(steps)


def _run_one(job: Job, parallel: int) -> Record:
    return execute(job, _tick, parallel)


class _Worker:
    """A process that runs one job after the other.

    A new process takes the place of a dead one, and of one whose run failed: after some errors a
    process can no longer use its accelerator.
    """

    def __init__(self, context: Any, ticks: Any, threads: int | None) -> None:
        self._settings = (context, ticks, threads)
        self._process = self._new()

    def _new(self) -> ProcessPoolExecutor:
        context, ticks, threads = self._settings
        return ProcessPoolExecutor(1, context, _start, (ticks, threads))

    def run(self, work: Work, job: Job, parallel: int) -> Record:
        try:
            return self._process.submit(attempt, work, job, parallel).result()
        except RunFailedError:
            self._replace()
            raise
        except BrokenProcessPool as error:
            self._process.shutdown(wait=False)
            self._process = self._new()
            raise RuntimeError(
                "the process of the run died: killed, or out of memory; fewer --jobs need less"
            ) from error

    def _replace(self) -> None:
        """End the idle process, so that its memory is free, and prepare a new one."""
        processes = dict(self._process._processes or {})
        self._process.shutdown(wait=False)
        for process in processes.values():
            process.join(_PATIENCE)
            if process.is_alive():
                process.kill()
        self._process = self._new()

    def close(self) -> None:
        """End the process, which is idle."""
        self._process.shutdown()

    def kill(self) -> None:
        """End the process in the middle of its run."""
        processes = dict(self._process._processes or {})
        self._process.shutdown(wait=False, cancel_futures=True)
        for process in processes.values():
            process.terminate()


@contextmanager
def _silent_bars() -> Iterator[None]:
    """New processes draw no progress bars: the terminal shows the progress of all runs."""
    before = os.environ.get("TQDM_DISABLE")
    os.environ["TQDM_DISABLE"] = "1"  # read when tqdm is imported, so before the processes start
    try:
        yield
    finally:
        os.environ.pop("TQDM_DISABLE")
        if before is not None:
            os.environ["TQDM_DISABLE"] = before


@dataclass(frozen=True)
class LocalExecutor:
    """Runs jobs in processes of this machine.

    Attributes:
        parallel: runs at a time.
        threads: torch's threads in each process; None leaves torch's own choice.
        work: makes one job's record.

    Raises:
        ValueError: when ``parallel`` is below 1.
    """

    parallel: int = 1
    threads: int | None = None
    work: Work = _run_one

    def __post_init__(self) -> None:
        check_parallel(self.parallel)

    def run(self, jobs: Sequence[Job], done: Done, stepped: Stepped) -> None:
        """Run every job; see :class:`~benchmarks.execution.executor.Executor`."""
        if not jobs:
            return
        context = mp.get_context("spawn")
        manager = SyncManager(ctx=context)
        manager.start(end_with_parent)
        with manager, _silent_bars():
            locks = RunLocks(jobs)
            ticks, free = manager.Queue(), SimpleQueue[_Worker]()
            count = min(self.parallel, len(jobs))
            workers = [_Worker(context, ticks, self.threads) for _ in range(count)]
            for worker in workers:
                free.put(worker)

            def run_one(job: Job) -> Record:
                worker = free.get()
                try:
                    made = locks.take(job)
                    return worker.run(self.work, job, self.parallel) if made is None else made
                finally:
                    free.put(worker)

            with ThreadPoolExecutor(len(workers)) as threads:
                futures = {threads.submit(run_one, job): job for job in jobs}
                try:
                    _watch(futures, ticks, done, stepped, locks)
                except BaseException:  # Ctrl-C: finished runs are written, running ones end
                    for future in futures:
                        future.cancel()
                    for worker in workers:
                        worker.kill()
                    threads.shutdown()  # each process has ended
                    locks.release_all(jobs)
                    raise
                for worker in workers:
                    worker.close()


def _watch(
    left: dict[Future[Record], Job], ticks: Any, done: Done, stepped: Stepped, locks: RunLocks
) -> None:
    while left:
        for future in [f for f in left if f.done()]:
            job, error = left.pop(future), future.exception()
            done(job, future.result() if error is None else error)
            locks.release(job)
        count = 0
        while not ticks.empty():
            steps = ticks.get()
            if steps < 0:
                stepped(steps)
            else:
                count += steps
        stepped(count)
        time.sleep(0.2)
