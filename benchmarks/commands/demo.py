"""The main job: methods over their strengths on the embedded stream, as paths."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from benchmarks.board.table import (
    table,
)
from benchmarks.board.write import write_board
from benchmarks.commands.run import (
    check_folder,
)
from benchmarks.config import Config, Recipe, find_recipe, load_recipe, path_configs
from benchmarks.execution.pool import (
    run_all,
)
from benchmarks.execution.tasks import (
    Settler,
    Task,
)
from benchmarks.experiment.prepare import (
    planned_steps,
)
from benchmarks.methods.plugins import arguments_of, checked
from benchmarks.methods.registry import METHODS
from benchmarks.results.files import (
    collect,
)
from benchmarks.results.record import (
    Selection,
)
from benchmarks.results.settings import (
    rows_of,
)
from benchmarks.streams.registry import load_stream
from benchmarks.streams.views import Views


def concepts_recipe() -> Recipe:
    """The recipe of the embedded stream."""
    return load_recipe(find_recipe("concepts.yaml"))


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of ``python -m benchmarks demo``."""
    recipe = concepts_recipe()
    config: Any = recipe.config
    parser.add_argument("--full", action="store_true", help="all methods, five strengths each")
    parser.add_argument(
        "--methods",
        nargs="+",
        choices=tuple(METHODS),
        default=None,
        metavar="METHOD",
        help=f"some of {', '.join(METHODS)}; default: {', '.join(recipe.compare)}, "
        "or all with --full",
    )
    parser.add_argument(
        "--strengths",
        nargs="+",
        type=float,
        default=None,
        metavar="X",
        help="lambda (mu of DiGraP, alpha of WiSE-FT); default: the recipe's coarse or full grid",
    )
    parser.add_argument(
        "--chosen", action="store_true", help="run the recipe's chosen strength alone"
    )
    parser.add_argument("--neighbors", type=int, default=None, help="K of FDA and Proxy-FDA")
    parser.add_argument("--reference", choices=("previous", "initial"), default=config.reference)
    parser.add_argument("--lr", type=float, default=config.train.lr)
    parser.add_argument("--epochs", type=int, default=config.train.epochs)
    parser.add_argument("--seed", type=int, default=config.seed, help="the first")
    parser.add_argument("--seeds", type=int, default=1, help="how many, from --seed on")
    parser.add_argument("--sequence", nargs="+", metavar="SET", default=list(config.stream.sets))
    parser.add_argument("--panel", nargs="+", metavar="SET", default=list(config.panel.sets))
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time")
    parser.add_argument("--out", type=Path, default=Path("runs/demo"))


def planned(args: argparse.Namespace) -> list[Config]:
    """The runs that the options ask for.

    Raises:
        ValueError: when options or values do not fit.
    """
    recipe = concepts_recipe()
    settings = {
        "reference": args.reference,
        "train.lr": args.lr,
        "train.epochs": args.epochs,
        "stream.sets": args.sequence,
        "panel.sets": args.panel,
    }
    if args.seeds < 1 or args.seed < 0:
        raise ValueError(f"--seeds {args.seeds} from --seed {args.seed}: at least one, from 0 on")
    configs: list[Config] = []
    for method in args.methods or (tuple(METHODS) if args.full else recipe.compare):
        overrides = dict(settings)
        if args.neighbors is not None and "num_neighbors" in arguments_of(method):
            overrides["options.num_neighbors"] = args.neighbors
        for seed in range(args.seed, args.seed + args.seeds):
            run = recipe.of_method(method, {**overrides, "seed": seed})
            grid = args.strengths or (run.grid if args.full else run.coarse)
            path = [run.config] if args.chosen else path_configs(run.config, grid)
            configs += [checked(config, recipe.path.name) for config in path]
    return configs


def main(args: argparse.Namespace) -> int:
    """Run the paths, print the table, write the board; 0 if every run finished."""
    started = time.perf_counter()
    configs = planned(args)
    check_folder(args.out)
    print(
        f"{len(configs)} runs that learn {' -> '.join(args.sequence)}; "
        f"panel: {', '.join(args.panel)}.",
        flush=True,
    )
    paths = [config.method for config in configs]
    tasks = [
        Task(
            config,
            args.out,
            Selection()
            if args.chosen or config.strength is None
            else Selection("validation", paths.count(config.method) // args.seeds),
            planned_steps(config, load_stream(config, Views(abs, abs))),
        )
        for config in configs
    ]
    done = Settler(args.jobs)
    run_all(tasks, args.jobs, 1, done)
    done.finish()
    finished = [r for r in done.records.values() if r.status == "finished"]
    if finished:
        print(table(rows_of(finished)))
    page = write_board(collect(done.records), args.out / "board", args.seeds)
    print(f"\nEach run's record is in {args.out}/. All of it, run by run, to look at:\n{page}")
    print(f"Took {time.perf_counter() - started:.0f} s.")
    return int(len(finished) < len(tasks))
