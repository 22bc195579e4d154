"""The main job: plain fine-tuning, FDA and Proxy-FDA on the embedded stream."""

from __future__ import annotations

import argparse
import multiprocessing as mp
import sys
import time
import traceback
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks.quiet import quiet

_ticks: Any = None


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of ``python -m benchmarks demo``."""
    from benchmarks.engine import METHODS, RunConfig

    plain = RunConfig("finetune")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--weight", type=float, default=plain.weight, help="lambda")
    parser.add_argument("--neighbors", type=int, default=plain.num_neighbors, help="K")
    parser.add_argument("--teacher", choices=("previous", "initial"), default=plain.teacher)
    parser.add_argument("--lr", type=float, default=plain.lr)
    parser.add_argument("--epochs", type=int, default=plain.epochs)
    parser.add_argument("--seed", type=int, default=plain.seed)
    parser.add_argument("--evaluate-on", choices=("test", "validation"), default="test")
    parser.add_argument("--sequence", nargs="+", metavar="SET", default=list(plain.sequence))
    parser.add_argument("--panel", nargs="+", metavar="SET", default=list(plain.panel))
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time")
    parser.add_argument("--out", type=Path, default=Path("runs/demo"))


def _start(ticks: Any) -> None:
    global _ticks
    quiet()
    import torch

    torch.set_num_threads(1)
    _ticks = ticks


def _tick() -> None:
    _ticks.put(1)


def _run_one(config: Any) -> dict[str, Any]:
    from benchmarks.engine import run

    return run(config, _tick)


def main(args: argparse.Namespace) -> int:
    """Run the methods, print the table; 0 if every run finished."""
    from benchmarks.engine import RunConfig, planned_steps, write_json

    started = time.perf_counter()
    chosen = {
        "weight": args.weight,
        "num_neighbors": args.neighbors,
        "teacher": args.teacher,
        "lr": args.lr,
        "epochs": args.epochs,
        "seed": args.seed,
        "evaluate_on": args.evaluate_on,
        "sequence": tuple(args.sequence),
        "panel": tuple(args.panel),
    }
    configs = [RunConfig(method, **chosen) for method in args.methods]
    print(f"Learning {' -> '.join(args.sequence)}; panel: {', '.join(args.panel)}.", flush=True)
    context = mp.get_context("spawn")
    with context.Manager() as manager:
        ticks = manager.Queue()
        with ProcessPoolExecutor(args.jobs, context, _start, (ticks,)) as pool:
            futures = [pool.submit(_run_one, config) for config in configs]
            _watch(futures, ticks.empty, ticks.get, sum(map(planned_steps, configs)))
    results, failed = [], False
    for config, future in zip(configs, futures, strict=True):
        error = future.exception()
        if error is not None:
            failed = True
            print(f"\n{config.method} failed:", file=sys.stderr)
            traceback.print_exception(error)
            continue
        results.append(future.result())
        write_json(args.out / f"{config.label}.json", results[-1])
    if results:
        print(table(results))
        print(f"\nEach run's record is in {args.out}/.")
    print(f"Took {time.perf_counter() - started:.0f} s.")
    return int(failed)


def _watch(
    futures: list[Future[dict[str, Any]]],
    empty: Callable[[], bool],
    get: Callable[[], int],
    steps: int,
) -> None:
    """A bar of training steps over all runs, until every run has ended."""
    with tqdm(total=steps, desc="steps", unit="step", mininterval=2) as bar:
        while True:
            ended = all(future.done() for future in futures)
            while not empty():
                bar.update(get())
            if ended:
                return
            time.sleep(0.2)


def table(results: list[dict[str, Any]]) -> str:
    """The results as Markdown: percentages, and the median seconds of a step."""
    panel = results[0]["config"]["panel"]
    head = ("method", "accuracy", "forgetting", "Δ_LP panel", *panel, "s/step")
    lines = ["", " | ".join(head), " | ".join("---" for _ in head)]
    for result in results:
        changes = [result["panel_after"][n] - result["panel_before"][n] for n in panel]
        lines.append(
            " | ".join(
                (
                    result["config"]["method"],
                    f"{100 * result['stream_accuracy']:.1f}",
                    f"{100 * result['forgetting_avalanche']:.1f}",
                    f"{100 * result['delta_lp']:+.1f}",
                    *(f"{100 * change:+.1f}" for change in changes),
                    f"{result['seconds_per_step']:.3f}",
                )
            )
        )
    lines += [
        "",
        "accuracy: mean over the data sets of the stream after the last (%). forgetting: accuracy",
        "right after learning a data set minus accuracy at the end (points, Avalanche's). Δ_LP:",
        "change of the linear-probe accuracy of data sets never tuned on (points; below 0 is",
        "concept forgetting), the mean and each. s/step: median, with as many runs at a time as",
        "--jobs says, so compare them within one table only.",
    ]
    return "\n".join("| " + line + " |" if " | " in line else line for line in lines)
