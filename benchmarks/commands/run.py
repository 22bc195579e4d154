"""``python -m benchmarks run``: a recipe's configuration, or its methods side by side."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from avalanche_proxyfda._files import expanded
from avalanche_proxyfda._yaml import write_yaml
from avalanche_proxyfda.streams.files.labelled import SPLITS
from benchmarks.board.advice import advice
from benchmarks.board.per_set import per_set
from benchmarks.board.table import table
from benchmarks.board.unseen import unseen_markdown
from benchmarks.config import find_recipe, keys_help, load_recipe, parse_overrides, plain
from benchmarks.execution.executor import Executor
from benchmarks.execution.job import Job
from benchmarks.execution.launcher import Policy, add_policy, check_folder, launch, policy_of
from benchmarks.execution.local import LocalExecutor
from benchmarks.execution.next_steps import next_steps
from benchmarks.execution.own_data import RECIPE, check_images, data_overrides
from benchmarks.execution.plan import checked_steps, printed_notices
from benchmarks.execution.recipe_jobs import recipe_jobs
from benchmarks.execution.stopping import typed
from benchmarks.execution.torchrun import TorchrunExecutor, first_on_machine, joined
from benchmarks.experiment.ranks import is_main, launched, refuse_ranks
from benchmarks.methods.registry import strength_of_text
from benchmarks.results.settings import rows_of
from benchmarks.streams.registry import scan_images


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of ``python -m benchmarks run``."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = keys_help()
    parser.add_argument(
        "--config",
        default=None,
        metavar="FILE",
        help="a recipe, from here or from benchmarks/: a stream's, or one method's on a stream; "
        f"default with --data: {RECIPE}",
    )
    parser.add_argument(
        "--data",
        nargs="+",
        default=None,
        metavar="DIR",
        help="folders of photographs to learn, one after the other: a folder a class, or train/ "
        "and test/; docs/own-data.md",
    )
    parser.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        dest="overrides",
        help="change keys, listed below; values are YAML 1.2: train.lr=1e-4 panel.sets=[]",
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
        type=strength_of_text,
        default=None,
        metavar="X",
        help="strengths of every method that has one, numbers or auto; default: the recipe's",
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
        "--out", type=expanded, default=None, help="folder of the records; default: runs/STREAM"
    )


def planned(args: argparse.Namespace) -> list[Job]:
    """The jobs that the options ask for.

    Raises:
        FileNotFoundError: when there is no such recipe.
        ValueError: when options, keys or values do not fit.
    """
    overrides = parse_overrides(args.overrides)
    if args.data is not None:
        overrides |= data_overrides(args.data, overrides)
    elif args.config is None:
        raise ValueError("give --config RECIPE, or --data with folders of photographs")
    if args.on_corrupt is not None:
        overrides["stream.on_corrupt"] = args.on_corrupt
    recipe = load_recipe(find_recipe(args.config or RECIPE))
    if args.methods and recipe.method is not None:
        raise ValueError(f"--methods: {recipe.path.name} is the recipe of one method already")
    out = args.out or Path("runs") / recipe.stream
    methods, seeds = args.methods or recipe.compare or (None,), args.seeds or (None,)
    return recipe_jobs(recipe, out, methods, seeds, args.strengths or "recipe", overrides)


def main(args: argparse.Namespace) -> int:
    """Run, or say what would be run; 0 if every run finished."""
    executor: Executor = LocalExecutor(args.jobs, 1 if args.jobs > 1 else None)
    jobs = planned(args)
    if args.scan:
        refuse_ranks("run --scan")
        return _scan(jobs[0])
    if launched():
        executor = TorchrunExecutor()
    with joined([job.config for job in jobs], args.jobs):
        if args.data is not None and is_main():
            check_images(jobs[0].config)
        jobs, summary = first_on_machine(lambda: _checked(jobs, args.data is not None))
        if args.dry_run:
            _show(jobs, summary)
            return 0
        return _launched(jobs, summary, executor, policy_of(args), args.data is not None)


def _checked(jobs: Sequence[Job], own: bool) -> tuple[list[Job], dict[str, Any]]:
    """The jobs with their steps; for own data, a missing network is answered with a small model."""
    try:
        return checked_steps(jobs)
    except ConnectionError as error:
        if not own:
            raise
        raise ConnectionError(
            f"{error}; to try without a network, use the small model of this repository: "
            "--set backbone.name=tiny-clip"
        ) from error


def _launched(
    jobs: Sequence[Job], summary: dict[str, Any], executor: Executor, policy: Policy, own: bool
) -> int:
    """Launch the jobs, and print their table; for own data, a table of the data sets too."""
    out = jobs[0].folder
    if is_main():
        check_folder(out)
    if summary.get("split") == "hash80":
        print("The split is hash80, our own: figures are comparable with the same split only.")
    end = launch(jobs, out, executor, policy)
    if end.records:
        rows = rows_of(end.records)
        print(table(rows))
        if own:
            print(per_set(rows))
        unseen = unseen_markdown([(row.label, row) for row in rows], escaped=False)
        if unseen:
            print("\n".join(["", *unseen]))
        hints = advice(rows)
        if hints:
            print("\n".join(["", *hints]))
        print(f"\nEach run's record is in {out}/. To draw them as one page:\n{typed('board', out)}")
        for line in next_steps(jobs, end.records):
            print(line)
    return end.status


def _show(jobs: Sequence[Job], summary: dict[str, Any]) -> None:
    """Print the images of each set, the resolved configurations, and the stream, as YAML."""
    for about in summary.get("sets", ()):
        parts = ", ".join(f"{about[part]} {part}" for part in SPLITS)
        print(f"# {about['name']}: {about['classes']} classes; images: {parts}")
    for job in jobs:
        shown = {"run": job.config.label, "steps": job.steps, **plain(job.config)}
        print("---")
        print(write_yaml(shown, sort_keys=False, allow_unicode=True).strip())
    print("---")
    content = {"stream_summary": summary}
    print(write_yaml(content, sort_keys=False, allow_unicode=True, default_flow_style=None))


def _scan(job: Job) -> int:
    """List the images that cannot be read; 1 if there are any."""
    with printed_notices():
        count, broken = scan_images(job.config)
    for place, reason in broken.items():
        print(f"{place}: {reason}")
    print(f"{count} images read, {len(broken)} of them broken.")
    if broken:
        print("Leave them out with --on-corrupt drop, which the record notes.")
    return int(bool(broken))
