"""``python -m benchmarks run``: a recipe's configuration, or its methods side by side."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from avalanche_proxyfda._files import expanded
from benchmarks.commands import work
from benchmarks.config import find_recipe, keys_help, load_recipe, parse_overrides
from benchmarks.config.numbers import check_seed
from benchmarks.execution.job import Job
from benchmarks.execution.own_data import RECIPE, data_overrides, parents_of_sets
from benchmarks.execution.policy import add_policy, check_parallel
from benchmarks.execution.recipe_jobs import check_strengths, given_strength, recipe_jobs
from benchmarks.experiment.ranks import is_main, refuse_ranks


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of ``python -m benchmarks run``."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = keys_help()
    parser.add_argument(
        "--config",
        default=None,
        metavar="FILE",
        help="recipe file, by its path or by its name in benchmarks/recipes; default with --data: "
        f"{RECIPE}",
    )
    parser.add_argument(
        "--data",
        nargs="+",
        default=None,
        metavar="DIR",
        help="folders of photographs to learn, one after the other; each holds a folder for each "
        "class, or train/ and test/ with such folders; see docs/own-data.md",
    )
    parser.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        dest="overrides",
        help="set keys of the list below; values are YAML 1.2, as in train.lr=1e-4 panel.sets=[]",
    )
    parser.add_argument(
        "--methods",
        nargs="+",
        default=None,
        metavar="METHOD",
        help="methods to train on the stream of the recipe; default: those that its compare lists",
    )
    parser.add_argument(
        "--seeds",
        nargs="+",
        type=int,
        default=None,
        metavar="SEED",
        help="seeds to run; default: the recipe's",
    )
    parser.add_argument(
        "--strengths",
        nargs="+",
        type=given_strength,
        default=None,
        metavar="X",
        help="strengths of every method that has one, numbers or auto; default: the recipe's",
    )
    parser.add_argument(
        "--on-corrupt",
        choices=("raise", "drop"),
        default=None,
        help="raise: stop at a broken image and name it; drop: leave it out and note it",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="show configuration and data, and stop"
    )
    parser.add_argument(
        "--scan", action="store_true", help="read every image once, list the broken ones, and stop"
    )
    parser.add_argument("--jobs", type=int, default=1, help="number of runs at a time; default: 1")
    add_policy(parser, retry_failed=True)
    parser.add_argument(
        "--out", type=expanded, default=None, help="folder of the records; default: runs/STREAM"
    )


def planned(args: argparse.Namespace) -> list[Job]:
    """The jobs that the options ask for.

    Raises:
        FileNotFoundError: when there is no such recipe.
        ValueError: when options, keys or values do not fit.
    """
    overrides = parse_overrides(args.overrides)
    _check_once(args, overrides)
    if args.data is not None:
        overrides |= data_overrides(args.data, overrides)
    elif args.config is None:
        raise ValueError("give --config RECIPE, or --data with folders of photographs")
    if args.on_corrupt is not None:
        overrides["stream.on_corrupt"] = args.on_corrupt
    for seed in args.seeds or ():
        check_seed("--seeds", seed)
    recipe = load_recipe(find_recipe(args.config or RECIPE))
    if args.methods and recipe.method is not None:
        raise ValueError(f"--methods: {recipe.path.name} is the recipe of one method already")
    out = args.out or Path("runs") / recipe.stream
    methods, seeds = args.methods or recipe.compare or (None,), args.seeds or (None,)
    jobs = recipe_jobs(recipe, out, methods, seeds, args.strengths or "recipe", overrides)
    check_strengths(jobs, args.strengths)
    return jobs


def _check_once(args: argparse.Namespace, overrides: Mapping[str, Any]) -> None:
    """Refuse a key of ``--set`` that an option of the command sets too.

    Raises:
        ValueError: names both.
    """
    options = {
        "seed": ("--seeds", args.seeds),
        "strength": ("--strengths", args.strengths),
        "stream.on_corrupt": ("--on-corrupt", args.on_corrupt),
    }
    for key, (option, value) in options.items():
        if key in overrides and value is not None:
            raise ValueError(f"--set {key}: {option} sets it too; drop one of the two")


def main(args: argparse.Namespace) -> int:
    """Run, or say what would be run; 0 if every run finished."""
    check_parallel(args.jobs)
    if args.scan and args.dry_run:
        raise ValueError("--scan and --dry-run each stop before the training: drop one of the two")
    jobs = planned(args)
    if is_main():
        for question in parents_of_sets(args.data or ()):
            print(question, file=sys.stderr)
    if args.scan:
        refuse_ranks("run --scan")
        return work.scan_stream(jobs)
    return work.run_jobs(args, jobs)
