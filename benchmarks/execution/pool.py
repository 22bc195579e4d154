"""Several runs at once, in processes of their own, under one progress bar."""

from __future__ import annotations

import multiprocessing as mp
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from benchmarks.quiet import quiet

if TYPE_CHECKING:
    from benchmarks.execution.tasks import (
        Task,
    )
    from benchmarks.results.record import (
        Record,
    )

_ticks: Any = None


def _start(ticks: Any, threads: int | None) -> None:
    global _ticks
    quiet()
    import torch

    if threads is not None:
        torch.set_num_threads(threads)
    _ticks = ticks


def _tick() -> None:
    with suppress(ConnectionError, EOFError):  # when all is ended nobody counts any more
        _ticks.put(1)


def _run_one(task: Task, jobs: int) -> Record:
    from benchmarks.execution.tasks import (
        execute,
    )

    return execute(task, _tick, jobs)


def _tried(work: Work, task: Task, jobs: int) -> Record:
    from benchmarks.execution.tasks import (
        tried,
    )

    return tried(work, task, jobs)


Work = Callable[["Task", int], "Record"]
Done = Callable[["Task", "Record | BaseException"], None]


class _Worker:
    """A process that runs one configuration after the other; a new one when it has died."""

    def __init__(self, context: Any, ticks: Any, threads: int | None) -> None:
        self._make = lambda: ProcessPoolExecutor(1, context, _start, (ticks, threads))
        self._process = self._make()

    def run(self, work: Work, task: Task, jobs: int) -> Record:
        try:
            return self._process.submit(_tried, work, task, jobs).result()
        except BrokenProcessPool as error:
            self._process.shutdown(wait=False)
            self._process = self._make()
            raise RuntimeError(
                "the process of the run died: killed, or out of memory; fewer --jobs need less"
            ) from error

    def close(self) -> None:
        """End the process, which has nothing to do."""
        self._process.shutdown()

    def kill(self) -> None:
        """End the process, whatever it does: nobody waits for it any more."""
        processes = dict(self._process._processes or {})
        self._process.shutdown(wait=False, cancel_futures=True)
        for process in processes.values():
            process.terminate()


@contextmanager
def _silent_bars() -> Iterator[None]:
    """New processes draw no bars: the bar of all runs has the terminal to itself."""
    before = os.environ.get("TQDM_DISABLE")
    os.environ["TQDM_DISABLE"] = "1"  # read as tqdm is imported, so before they start
    try:
        yield
    finally:
        os.environ.pop("TQDM_DISABLE")
        if before is not None:
            os.environ["TQDM_DISABLE"] = before


def run_all(
    tasks: Sequence[Task],
    jobs: int,
    threads: int | None,
    done: Done,
    stepped: Callable[[int], None] | None = None,
    work: Work = _run_one,
) -> None:
    """Run every task; one that fails, or dies, does not stop the others.

    Args:
        tasks: what to run.
        jobs: runs at a time.
        threads: torch's, in each process; None leaves them.
        done: called as each ends, with its record or what went wrong.
        stepped: called now and then with the training steps since; None draws a bar.
        work: makes one task's record; its second argument is ``jobs``.
    """
    context = mp.get_context("spawn")
    with context.Manager() as manager, _silent_bars():
        ticks, free = manager.Queue(), SimpleQueue[_Worker]()
        workers = [_Worker(context, ticks, threads) for _ in range(min(jobs, len(tasks)))]
        for worker in workers:
            free.put(worker)

        def run(task: Task) -> Record:
            worker = free.get()
            try:
                return worker.run(work, task, jobs)
            finally:
                free.put(worker)

        with ThreadPoolExecutor(len(workers)) as threads_of_workers:
            futures = {threads_of_workers.submit(run, task): task for task in tasks}
            try:
                if stepped is None:
                    total = sum(task.steps for task in tasks)
                    with tqdm(total=total, desc="steps", unit="step", mininterval=2) as bar:
                        _watch(futures, ticks, done, bar.update)
                else:
                    _watch(futures, ticks, done, stepped)
            except BaseException:  # Ctrl-C: what is done is written, what runs is ended
                for future in futures:
                    future.cancel()
                for worker in workers:
                    worker.kill()
                raise
            for worker in workers:
                worker.close()


def _watch(
    left: dict[Future[Record], Task], ticks: Any, done: Done, stepped: Callable[[int], Any]
) -> None:
    while left:
        for future in [f for f in left if f.done()]:
            task, error = left.pop(future), future.exception()
            done(task, future.result() if error is None else error)
        count = 0
        while not ticks.empty():
            count += ticks.get()
        stepped(count)
        time.sleep(0.2)
