"""Several runs at once, in processes of their own, under one progress bar."""

from __future__ import annotations

import multiprocessing as mp
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from benchmarks.quiet import quiet

if TYPE_CHECKING:
    from benchmarks.config import Config

_ticks: Any = None


def _start(ticks: Any, threads: int | None) -> None:
    global _ticks
    quiet()
    import torch

    if threads is not None:
        torch.set_num_threads(threads)
    _ticks = ticks


def _tick() -> None:
    _ticks.put(1)


def _run_one(config: Config, folder: Path) -> dict[str, Any]:
    from benchmarks.engine import run

    return run(config, _tick, folder / config.label)


Work = Callable[["Config", Path], dict[str, Any]]


class _Worker:
    """A process that runs one configuration after the other; a new one when it has died."""

    def __init__(self, context: Any, ticks: Any, threads: int | None) -> None:
        self._make = lambda: ProcessPoolExecutor(1, context, _start, (ticks, threads))
        self._process = self._make()

    def run(self, work: Work, config: Config, folder: Path) -> dict[str, Any]:
        try:
            return self._process.submit(work, config, folder).result()
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
    configs: Sequence[Config],
    steps: int,
    out: Path,
    jobs: int,
    threads: int | None,
    done: Callable[[Config, dict[str, Any] | BaseException], None],
    work: Work = _run_one,
) -> None:
    """Run every configuration; one that fails, or dies, does not stop the others.

    Args:
        configs: what to run.
        steps: training steps of all, for the bar.
        out: where loggers' folders are.
        jobs: runs at a time.
        threads: torch's, in each process; None leaves them.
        done: called as each ends, with its record or what went wrong.
        work: makes one run's record; its second argument is ``out``.
    """
    context = mp.get_context("spawn")
    with context.Manager() as manager, _silent_bars():
        ticks, free = manager.Queue(), SimpleQueue[_Worker]()
        workers = [_Worker(context, ticks, threads) for _ in range(min(jobs, len(configs)))]
        for worker in workers:
            free.put(worker)

        def run(config: Config) -> dict[str, Any]:
            worker = free.get()
            try:
                return worker.run(work, config, out)
            finally:
                free.put(worker)

        with ThreadPoolExecutor(len(workers)) as threads_of_workers:
            futures = {threads_of_workers.submit(run, config): config for config in configs}
            try:
                _watch(futures, ticks, steps, done)
            except BaseException:  # Ctrl-C: what is done is written, what runs is ended
                for future in futures:
                    future.cancel()
                for worker in workers:
                    worker.kill()
                raise
            for worker in workers:
                worker.close()


def _watch(
    left: dict[Future[dict[str, Any]], Config],
    ticks: Any,
    steps: int,
    done: Callable[[Config, dict[str, Any] | BaseException], None],
) -> None:
    with tqdm(total=steps, desc="steps", unit="step", mininterval=2) as bar:
        while left:
            for future in [f for f in left if f.done()]:
                config, error = left.pop(future), future.exception()
                done(config, future.result() if error is None else error)
            while not ticks.empty():
                bar.update(ticks.get())
            time.sleep(0.2)
