"""``python -m benchmarks run``: a recipe's configuration, or its methods side by side."""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from avalanche_proxyfda.checkpoint.checkpoints import (
    clean,
)
from benchmarks.board.table import (
    table,
)
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
from benchmarks.execution.pool import (
    run_all,
)
from benchmarks.execution.tasks import (
    Settler,
    Task,
)
from benchmarks.experiment import (
    ranks,
)
from benchmarks.experiment.prepare import (
    check_batches,
    planned_steps,
    prepare,
)
from benchmarks.methods.plugins import checked
from benchmarks.methods.registry import version_of
from benchmarks.results.record import (
    Record,
    Selection,
)
from benchmarks.results.settings import (
    rows_of,
)
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
    parser.add_argument(
        "--resume",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="keep what is finished and go on with what was broken off, the default; or begin anew",
    )
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


def check(configs: list[Config]) -> tuple[dict[str, Any], list[int]]:
    """The stream's summary and the steps of each run; everything is built once, to find what fails.

    Raises:
        What :func:`benchmarks.experiment.prepare.prepare` does.
    """
    streams: dict[str, Any] = {}
    steps = []
    for config in configs:
        content = plain(config)
        parts = ("stream", "backbone", "head", "train", "panel", "where")
        key = json.dumps([content[part] for part in parts])
        if key not in streams:
            streams[key] = prepare(config, only_check=True).stream
        check_batches(config, streams[key])
        steps.append(planned_steps(config, streams[key]))
    return next(iter(streams.values())).summary, steps


def main(args: argparse.Namespace) -> int:
    """Run, or say what would be run; 0 if every run finished."""
    started = time.perf_counter()
    if args.jobs < 1:
        raise ValueError(f"--jobs {args.jobs}: at least one")
    recipe, configs = planned(args)
    if args.scan:
        ranks.refuse("run --scan")
        return _scan(configs[0])
    with ranks.joined(configs, args.jobs):
        return _run(args, recipe, configs, started)


def _run(args: argparse.Namespace, recipe: Recipe, configs: list[Config], started: float) -> int:
    summary, steps = ranks.first_on_machine(lambda: check(configs))
    if args.dry_run:
        _show(configs, summary, steps)
        return 0
    out = args.out or Path("runs") / recipe.stream
    if ranks.is_main():
        check_folder(out)
    print(f"{len(configs)} runs, {sum(steps)} steps in all; records go to {out}/.", flush=True)
    if summary.get("split") == "hash80":
        print("The split is hash80, our own: figures are comparable with the same split only.")
    tried = len(args.strengths or [])
    by_validation = Selection("validation", tried)
    tasks = [
        Task(
            config,
            out,
            by_validation if tried and config.strength is not None else Selection(),
            count,
        )
        for config, count in zip(configs, steps, strict=True)
    ]
    kept = kept_of(tasks) if args.resume else begin_anew(tasks)
    due = [task for task in tasks if task.file not in kept]
    if kept:
        print(f"{len(kept)} are finished and kept; --no-resume runs them again.", flush=True)
    done = Settler(args.jobs)
    if due and ranks.launched():
        ranks.run_here(due, done)
    elif due:
        run_all(due, args.jobs, 1 if args.jobs > 1 else None, done)
    done.finish()
    finished = [*kept.values(), *(r for r in done.records.values() if r.status == "finished")]
    if finished:
        print(table(rows_of(finished)))
        print(f"\nEach run's record is in {out}/; python -m benchmarks board {out} draws them.")
    print(f"Took {time.perf_counter() - started:.0f} s.")
    return int(ranks.is_main() and len(finished) < len(tasks))


def kept_of(tasks: list[Task]) -> dict[Path, Record]:
    """Records of finished runs whose method still has the version that made them."""
    there = {task.file: (task, task.finished()) for task in tasks}
    return {
        file: record
        for file, (task, record) in there.items()
        if record is not None and record.how.code.version == version_of(task.config.method)
    }


def begin_anew(tasks: list[Task]) -> dict[Path, Record]:
    """Delete the checkpoints of runs; records stay until there are others."""
    for task in tasks:
        clean(task.checkpoint)
    return {}


def check_folder(out: Path) -> None:
    """Find out now, not after the first run, that nothing can be written to ``out``.

    Raises:
        OSError: then.
    """
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=out):
        pass


def _show(configs: list[Config], summary: dict[str, Any], steps: list[int]) -> None:
    """The resolved configurations, the stream, and the steps, as YAML."""
    for config, count in zip(configs, steps, strict=True):
        shown = {"run": config.label, "steps": count, **plain(config)}
        print("---")
        print(yaml.safe_dump(shown, sort_keys=False, allow_unicode=True).strip())
    print("---")
    print(yaml.safe_dump({"stream_summary": summary}, sort_keys=False, default_flow_style=None))


def _scan(config: Config) -> int:
    """List the images that cannot be read; 1 if there are any."""
    count, found = scan_images(config)
    for where, reason in found.items():
        print(f"{where}: {reason}")
    print(f"{count} images read, {len(found)} of them broken.")
    if found:
        print("Leave them out with --on-corrupt drop, which the record notes.")
    return int(bool(found))
