"""The main job: methods over their strengths on the embedded stream, as paths."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from avalanche_proxyfda._files import expanded
from benchmarks.commands import work
from benchmarks.config import Recipe, find_recipe, load_recipe
from benchmarks.config.numbers import check_seed
from benchmarks.execution.job import Job
from benchmarks.execution.policy import add_policy, check_parallel
from benchmarks.execution.recipe_jobs import (
    Strengths,
    check_strengths,
    given_strength,
    recipe_jobs,
)
from benchmarks.methods.registry import METHODS


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
        type=given_strength,
        default=None,
        metavar="X",
        help="lambda or auto (mu of DiGraP, alpha of WiSE-FT); default: the recipe's coarse or "
        "full grid",
    )
    parser.add_argument(
        "--chosen", action="store_true", help="run the recipe's chosen strength alone"
    )
    parser.add_argument("--neighbors", type=int, default=None, help="K of FDA and Proxy-FDA")
    parser.add_argument(
        "--reference", choices=("previous", "initial", "averaged"), default=config.reference
    )
    parser.add_argument("--lr", type=float, default=config.train.lr)
    parser.add_argument("--epochs", type=int, default=config.train.epochs)
    parser.add_argument("--seed", type=int, default=config.seed, help="the first")
    parser.add_argument("--seeds", type=int, default=1, help="how many, from --seed on")
    parser.add_argument("--sequence", nargs="+", metavar="SET", default=list(config.stream.sets))
    parser.add_argument("--panel", nargs="+", metavar="SET", default=list(config.panel.sets))
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time")
    parser.add_argument("--out", type=expanded, default=Path("runs/demo"))
    add_policy(parser, retry_failed=True)


def planned(args: argparse.Namespace) -> list[Job]:
    """The jobs that the options ask for; ``--neighbors`` is set when plugins are known.

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
    check_seed("--seed" if args.seeds == 1 else "the last of --seeds", args.seed + args.seeds - 1)
    _check_strengths(args)
    strengths: Strengths = args.strengths or ("grid" if args.full else "coarse")
    if args.chosen:
        strengths = "recipe"
    seeds = range(args.seed, args.seed + args.seeds)
    jobs: list[Job] = []
    for method in args.methods or (tuple(METHODS) if args.full else recipe.compare):
        jobs += recipe_jobs(recipe, args.out, [method], seeds, strengths, settings)
    check_strengths(jobs, args.strengths)
    return jobs


def _check_strengths(args: argparse.Namespace) -> None:
    """Refuse options on methods and strengths of which one has no effect beside the others.

    ``--full`` beside ``--chosen`` or ``--strengths`` still means all methods.

    Raises:
        ValueError: names the option to drop.
    """
    if args.chosen and args.strengths:
        raise ValueError(
            "--strengths: --chosen runs the recipe's strength alone; drop one of the two"
        )
    if args.full and args.methods and (args.chosen or args.strengths):
        other = "--chosen" if args.chosen else "--strengths"
        raise ValueError(
            f"--full: --methods names the methods, and {other} the strengths; drop --full"
        )


def main(args: argparse.Namespace) -> int:
    """Run the paths, print the table, write the board; 0 if every run finished."""
    check_parallel(args.jobs)
    jobs = planned(args)
    return work.run_demo(args, jobs)
