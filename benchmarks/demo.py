"""The main job: methods over their strengths on the embedded stream, as paths."""

from __future__ import annotations

import argparse
import multiprocessing as mp
import sys
import time
import traceback
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from benchmarks.quiet import quiet

if TYPE_CHECKING:
    from benchmarks.engine import RunConfig
    from benchmarks.path import PathPoint

QUICK = ("lp-ft", "l2sp", "ldifs", "fda", "proxy-fda")
_ticks: Any = None


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of ``python -m benchmarks demo``."""
    from benchmarks.engine import RunConfig
    from benchmarks.methods import METHODS

    plain = RunConfig("lp-ft")
    parser.add_argument("--full", action="store_true", help="all methods, five strengths each")
    parser.add_argument(
        "--methods", nargs="+", choices=tuple(METHODS), default=None, metavar="METHOD",
        help=f"of {', '.join(METHODS)}; default: {', '.join(QUICK)}, or all with --full",
    )  # fmt: skip
    parser.add_argument(
        "--strengths", nargs="+", type=float, default=None, metavar="X",
        help="lambda (mu of DiGraP, alpha of WiSE-FT); default: the recipe's coarse or full grid",
    )  # fmt: skip
    parser.add_argument(
        "--chosen", action="store_true", help="run the recipe's chosen strength alone"
    )
    parser.add_argument("--neighbors", type=int, default=None, help="K of FDA and Proxy-FDA")
    parser.add_argument("--reference", choices=("previous", "initial"), default=plain.reference)
    parser.add_argument("--lr", type=float, default=plain.lr)
    parser.add_argument("--epochs", type=int, default=plain.epochs)
    parser.add_argument("--seed", type=int, default=plain.seed)
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


def planned(args: argparse.Namespace) -> list[RunConfig]:
    """The runs that the options ask for."""
    from benchmarks.engine import RunConfig
    from benchmarks.methods import METHODS, recipe
    from benchmarks.path import path_configs

    settings = {
        "reference": args.reference,
        "lr": args.lr,
        "epochs": args.epochs,
        "seed": args.seed,
        "sequence": tuple(args.sequence),
        "panel": tuple(args.panel),
    }
    configs: list[RunConfig] = []
    for method in args.methods or (tuple(METHODS) if args.full else QUICK):
        made = recipe(method)
        options: dict[str, Any] = {}
        if args.neighbors is not None and "num_neighbors" in dict(made.options):
            options["num_neighbors"] = args.neighbors
        config = RunConfig.of(method, options=options, **settings)
        grid = args.strengths or (made.grid if args.full else made.coarse)
        configs += [config] if args.chosen else path_configs(config, grid)
    return configs


def main(args: argparse.Namespace) -> int:
    """Run the paths, print the table; 0 if every run finished."""
    from benchmarks.engine import planned_steps, write_json
    from benchmarks.figure import draw_paths
    from benchmarks.path import path_points

    started = time.perf_counter()
    configs = planned(args)
    print(
        f"{len(configs)} runs that learn {' -> '.join(args.sequence)}; "
        f"panel: {', '.join(args.panel)}.",
        flush=True,
    )
    context = mp.get_context("spawn")
    with context.Manager() as manager:
        ticks = manager.Queue()
        with ProcessPoolExecutor(args.jobs, context, _start, (ticks,)) as pool:
            futures = [pool.submit(_run_one, config) for config in configs]
            _watch(futures, configs, ticks, sum(map(planned_steps, configs)), args.out, write_json)
    records: dict[str, list[dict[str, Any]]] = {}
    failed = False
    for config, future in zip(configs, futures, strict=True):
        error = future.exception()
        if error is not None:
            failed = True
            print(f"\n{config.about} failed:", file=sys.stderr)
            traceback.print_exception(error)
            continue
        records.setdefault(config.method, []).append(future.result())
    if records:
        paths = {method: path_points(found) for method, found in records.items()}
        print(table(paths))
        draw_paths(paths, args.out / "paths.svg")
        print(f"\nEach run's record is in {args.out}/, the paths are drawn in paths.svg there.")
    print(f"Took {time.perf_counter() - started:.0f} s.")
    return int(failed)


def _watch(
    futures: list[Future[dict[str, Any]]],
    configs: list[RunConfig],
    ticks: Any,
    steps: int,
    out: Path,
    write: Callable[[Path, dict[str, Any]], None],
) -> None:
    """A bar of training steps over all runs; each record is written as its run ends."""
    left = dict(zip(futures, configs, strict=True))
    with tqdm(total=steps, desc="steps", unit="step", mininterval=2) as bar:
        while left:
            for future in [f for f in left if f.done()]:
                config = left.pop(future)
                if future.exception() is None:
                    write(out / f"{config.label}.json", future.result())
            while not ticks.empty():
                bar.update(ticks.get())
            time.sleep(0.2)


def table(paths: dict[str, list[PathPoint]]) -> str:
    """The paths as Markdown: percentages, and the median seconds of a step."""
    first = next(iter(paths.values()))[0]
    panel = first.record["config"]["panel"]
    head = ("method", "strength", "accuracy", "forgetting", "Δ_LP panel", *panel, "s/step")
    lines = ["", " | ".join(head), " | ".join("---" for _ in head)]
    for method, points in paths.items():
        for point in points:
            test = point.record["test"]
            changes = [test["panel_after"][n] - test["panel_before"][n] for n in panel]
            cells = (
                method,
                "" if point.strength is None else f"{point.strength:g}",
                f"{100 * point.stream_accuracy:.1f}",
                f"{100 * point.forgetting:.1f}",
                f"{100 * point.delta_lp:+.1f}",
                *(f"{100 * change:+.1f}" for change in changes),
                f"{point.record['seconds_per_step']:.3f}",
            )
            chosen = point.chosen and len(points) > 1
            lines.append(" | ".join(f"**{cell}**" if chosen else cell for cell in cells))
    lines += [
        "",
        "strength: lambda; mu of DiGraP, alpha of WiSE-FT. Bold: chosen on validation data, by",
        "accuracy + Δ_LP there. accuracy: mean over the stream's data sets after the last (%).",
        "forgetting: accuracy right after learning a data set minus accuracy at the end (points,",
        "Avalanche's). Δ_LP: change of the linear-probe accuracy of data sets never tuned on",
        "(points; below 0 is concept forgetting), the mean and each. s/step: median, with as many",
        "runs at a time as --jobs says, so compare them within one table only. All but finetune",
        "start from heads fitted by a linear probe (lp-ft is plain fine-tuning from there).",
    ]
    return "\n".join("| " + line + " |" if " | " in line else line for line in lines)
