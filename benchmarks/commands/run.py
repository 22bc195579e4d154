"""``python -m benchmarks run``: a recipe's configuration, or its methods side by side."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from benchmarks.board.table import table
from benchmarks.config import (
    Config,
    Recipe,
    find_recipe,
    keys_help,
    load_recipe,
    parse_overrides,
    path_configs,
    plain,
)
from benchmarks.execution.executor import Executor
from benchmarks.execution.job import GIVEN, Job
from benchmarks.execution.launcher import add_policy, check_folder, launch, policy_of
from benchmarks.execution.local import LocalExecutor
from benchmarks.execution.plan import checked_steps
from benchmarks.execution.torchrun import TorchrunExecutor, first_on_machine, joined
from benchmarks.experiment.ranks import is_main, launched, refuse_ranks
from benchmarks.methods.plugins import checked
from benchmarks.results.record import Selection
from benchmarks.results.settings import rows_of
from benchmarks.streams.registry import scan_images


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of ``python -m benchmarks run``."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = keys_help()
    parser.add_argument(
        "--config",
        required=True,
        metavar="FILE",
        help="a recipe, from here or from benchmarks/: a stream's, or one method's on a stream",
    )
    parser.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        dest="overrides",
        help="change keys, listed below; values are YAML: train.lr=1e-4 panel.sets=[]",
    )
    parser.add_argument(
        "--methods",
        nargs="+",
        default=None,
        metavar="METHOD",
        help="any methods, on the stream of the recipe; default: those that its compare lists",
    )
    parser.add_argument(
        "--seeds", nargs="+", type=int, default=None, metavar="SEED", help="default: the recipe's"
    )
    parser.add_argument(
        "--strengths",
        nargs="+",
        type=float,
        default=None,
        metavar="X",
        help="strengths of every method that has one; default: the recipe's",
    )
    parser.add_argument(
        "--on-corrupt",
        choices=("raise", "drop"),
        default=None,
        help="stop at a broken image, with its path, or leave broken ones out and note them",
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and stop")
    parser.add_argument(
        "--scan", action="store_true", help="read every image once, list the broken ones, and stop"
    )
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time; default: 1")
    add_policy(parser, retry_failed=True)
    parser.add_argument(
        "--out", type=Path, default=None, help="folder of the records; default: runs/STREAM"
    )


def planned(args: argparse.Namespace) -> tuple[Recipe, list[Config]]:
    """The recipe and the runs that the options ask for.

    Raises:
        FileNotFoundError: when there is no such recipe.
        ValueError: when options, keys or values do not fit.
    """
    overrides = parse_overrides(args.overrides)
    if args.on_corrupt is not None:
        overrides["stream.on_corrupt"] = args.on_corrupt
    recipe = load_recipe(find_recipe(args.config))
    if args.methods and recipe.method is not None:
        raise ValueError(f"--methods: {recipe.path.name} is the recipe of one method already")
    for name, values in (("--methods", args.methods), ("--seeds", args.seeds)):
        if values and len(set(values)) < len(values):
            raise ValueError(f"{name} {values}: each may be given once")
    configs = []
    for method in args.methods or recipe.compare or (None,):
        for seed in args.seeds or (None,):
            changes = overrides if seed is None else {**overrides, "seed": seed}
            config = _config(recipe, method, changes)
            path = path_configs(config, args.strengths) if args.strengths else [config]
            configs += [checked(each, recipe.path.name) for each in path]
    return recipe, configs


def _config(recipe: Recipe, method: str | None, overrides: dict[str, Any]) -> Config:
    """The configuration of ``method``; None takes the recipe's own."""
    if method is None:
        return load_recipe(recipe.path, overrides).config
    return recipe.of_method(method, overrides).config


def jobs_of(configs: Sequence[Config], out: Path, strengths: Sequence[float] | None) -> list[Job]:
    """The jobs of configurations; several strengths are compared on validation data."""
    count = len(strengths or ())
    compared = Selection("validation", count)
    return [
        Job(config, out, compared if count and config.strength is not None else GIVEN)
        for config in configs
    ]


def main(args: argparse.Namespace) -> int:
    """Run, or say what would be run; 0 if every run finished."""
    if args.jobs < 1:
        raise ValueError(f"--jobs {args.jobs}: at least one")
    recipe, configs = planned(args)
    if args.scan:
        refuse_ranks("run --scan")
        return _scan(configs[0])
    with joined(configs, args.jobs):
        return _run(args, recipe, configs)


def _run(args: argparse.Namespace, recipe: Recipe, configs: list[Config]) -> int:
    out = args.out or Path("runs") / recipe.stream
    jobs = jobs_of(configs, out, args.strengths)
    jobs, summary = first_on_machine(lambda: checked_steps(jobs))
    if args.dry_run:
        _show(jobs, summary)
        return 0
    if is_main():
        check_folder(out)
    if summary.get("split") == "hash80":
        print("The split is hash80, our own: figures are comparable with the same split only.")
    executor: Executor = LocalExecutor(args.jobs, 1 if args.jobs > 1 else None)
    if launched():
        executor = TorchrunExecutor()
    end = launch(jobs, out, executor, policy_of(args))
    if end.records:
        print(table(rows_of(end.records)))
        print(f"\nEach run's record is in {out}/; python -m benchmarks board {out} draws them.")
    return end.status


def _show(jobs: Sequence[Job], summary: dict[str, Any]) -> None:
    """Print the resolved configurations, their steps and the stream, as YAML."""
    for job in jobs:
        shown = {"run": job.config.label, "steps": job.steps, **plain(job.config)}
        print("---")
        print(yaml.safe_dump(shown, sort_keys=False, allow_unicode=True).strip())
    print("---")
    print(yaml.safe_dump({"stream_summary": summary}, sort_keys=False, default_flow_style=None))


def _scan(config: Config) -> int:
    """List the images that cannot be read; 1 if there are any."""
    count, broken = scan_images(config)
    for place, reason in broken.items():
        print(f"{place}: {reason}")
    print(f"{count} images read, {len(broken)} of them broken.")
    if broken:
        print("Leave them out with --on-corrupt drop, which the record notes.")
    return int(bool(broken))
