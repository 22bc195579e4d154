"""Several runs at once, in processes of their own, under one progress bar."""

from __future__ import annotations

import multiprocessing as mp
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from benchmarks.quiet import quiet

if TYPE_CHECKING:
    from benchmarks.config import Config

_ticks: Any = None


def _start(ticks: Any, threads: int | None) -> None:
    global _ticks
    quiet()
    os.environ["TQDM_DISABLE"] = "1"  # the bar of all runs has the terminal to itself
    import torch

    if threads is not None:
        torch.set_num_threads(threads)
    _ticks = ticks


def _tick() -> None:
    _ticks.put(1)


def _run_one(config: Config, folder: Path) -> dict[str, Any]:
    from benchmarks.engine import run

    return run(config, _tick, folder / config.label)


def run_all(
    configs: Sequence[Config],
    steps: int,
    out: Path,
    jobs: int,
    threads: int | None,
    done: Callable[[Config, dict[str, Any] | BaseException], None],
) -> None:
    """Run every configuration; one that fails does not stop the others.

    Args:
        configs: what to run.
        steps: training steps of all, for the bar.
        out: where loggers' folders are.
        jobs: runs at a time.
        threads: torch's, in each process; None leaves them.
        done: called as each ends, with its record or what went wrong.
    """
    context = mp.get_context("spawn")
    with context.Manager() as manager:
        ticks = manager.Queue()
        with ProcessPoolExecutor(jobs, context, _start, (ticks, threads)) as pool:
            futures = [pool.submit(_run_one, config, out) for config in configs]
            try:
                _watch(dict(zip(futures, configs, strict=True)), ticks, steps, done)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)  # Ctrl-C: what is done is written
                raise


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
