"""``python -m benchmarks run``: a recipe's configuration, or its methods side by side."""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

import yaml

if TYPE_CHECKING:
    from benchmarks.config import Config
    from benchmarks.recipe_files import Recipe
    from benchmarks.record import Record
    from benchmarks.tasks import Task


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of ``python -m benchmarks run``."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _keys()
    parser.add_argument(
        "--config", required=True, metavar="FILE",
        help="a recipe, from here or from benchmarks/: of a stream, or of a method on a stream",
    )  # fmt: skip
    parser.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", dest="overrides",
        help="change keys, listed below; values are YAML: train.lr=1e-4 panel.sets=[]",
    )  # fmt: skip
    parser.add_argument(
        "--methods", nargs="+", default=None, metavar="METHOD",
        help="of a stream's recipe; default: those that it lists",
    )  # fmt: skip
    parser.add_argument(
        "--seeds", nargs="+", type=int, default=None, metavar="SEED", help="default: the recipe's"
    )
    parser.add_argument(
        "--strengths", nargs="+", type=float, default=None, metavar="X",
        help="of every method that has one; default: the recipe's",
    )  # fmt: skip
    parser.add_argument(
        "--on-corrupt", choices=("raise", "drop"), default=None,
        help="stop at a broken image, with its path, or leave broken ones out and note them",
    )  # fmt: skip
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and stop")
    parser.add_argument(
        "--scan", action="store_true", help="read every image once, list the broken ones, and stop"
    )
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time; default: 1")
    parser.add_argument(
        "--resume", action=argparse.BooleanOptionalAction, default=True,
        help="keep what is finished and go on with what was broken off, the default; or begin anew",
    )  # fmt: skip
    parser.add_argument(
        "--out", type=Path, default=None, help="folder of the records; default: runs/STREAM"
    )


def _keys() -> str:
    """All keys with their defaults, from the dataclasses themselves."""
    from benchmarks.config import Config

    return "\n".join(["keys, with their defaults:", *_keys_of(Config, "")])


def _keys_of(kind: Any, path: str) -> list[str]:
    lines: list[str] = []
    hints, notes = get_type_hints(kind), get_type_hints(kind, include_extras=True)
    for field in fields(kind):
        annotation = hints[field.name]
        nested = [k for k in (annotation, *get_args(annotation)) if is_dataclass(k)]
        for one in nested:
            lines.append(f"  {path}{field.name}: {(one.__doc__ or '').splitlines()[0]}")
            lines += _keys_of(one, f"{path}{field.name}.")
        if nested:
            continue
        about = next((m.description for m in getattr(notes[field.name], "__metadata__", ())), "")
        if get_origin(annotation) is Literal:
            about = f"{' | '.join(get_args(annotation))}  {about}".rstrip()
        lines.append(f"    {path}{field.name} = {_default(field)}    {about}")
    return lines


def _default(field: Any) -> str:
    value, make = field.default, field.default_factory
    if make is MISSING:  # pydantic keeps a factory inside the default
        make = getattr(value, "default_factory", None) or MISSING
    if value is MISSING and make is MISSING:
        return "(needed)"
    value = value if make is MISSING else make()
    value = list(value) if isinstance(value, tuple) else value
    text: str = yaml.safe_dump(value, default_flow_style=True, width=1000)
    return text.strip().removesuffix("...").strip()


def planned(args: argparse.Namespace) -> tuple[Recipe, list[Config]]:
    """The runs that the options ask for."""
    from benchmarks.path import path_configs
    from benchmarks.recipe_files import find_recipe, load_recipe, parse_overrides

    overrides = parse_overrides(args.overrides)
    if args.on_corrupt is not None:
        overrides["stream.on_corrupt"] = args.on_corrupt
    recipe = load_recipe(find_recipe(args.config))
    if args.methods and not recipe.path.with_suffix("").is_dir():
        raise ValueError(f"--methods: {recipe.path.name} is the recipe of one method already")
    for name, values in (("--methods", args.methods), ("--seeds", args.seeds)):
        if values and len(set(values)) < len(values):
            raise ValueError(f"{name} {values}: each may be given once")
    files = [recipe.of_method(m) for m in args.methods or recipe.methods] or [recipe.path]
    configs = []
    for file in files:
        if not file.is_file():
            raise ValueError(f"{recipe.path.name} has no recipe of the method: {file} is no file")
        for seed in args.seeds or [None]:
            own = overrides if seed is None else {**overrides, "seed": seed}
            config = load_recipe(file, own).config
            configs += path_configs(config, args.strengths) if args.strengths else [config]
    return recipe, configs


def check(configs: list[Config]) -> tuple[dict[str, Any], list[int]]:
    """The stream's summary and the steps of each run; everything is built once, to find what fails.

    Raises:
        What :func:`benchmarks.prepare.prepare` does.
    """
    from benchmarks.config import plain
    from benchmarks.prepare import check_batches, planned_steps, prepare

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
    from benchmarks import ranks

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
    from benchmarks import ranks
    from benchmarks.board.rows import rows_of
    from benchmarks.pool import run_all
    from benchmarks.record import Selection
    from benchmarks.tables import table
    from benchmarks.tasks import Settler, Task

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
    tasks = [
        Task(config, out, Selection("validation", tried) if tried and config.strength is not None
             else Selection(), count)
        for config, count in zip(configs, steps, strict=True)
    ]  # fmt: skip
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
    from benchmarks.methods.registry import version_of

    there = {task.file: (task, task.finished()) for task in tasks}
    return {
        file: record
        for file, (task, record) in there.items()
        if record is not None and record.how.code.version == version_of(task.config.method)
    }


def begin_anew(tasks: list[Task]) -> dict[Path, Record]:
    """Delete the checkpoints of runs; records stay until there are others."""
    from avalanche_proxyfda.checkpoint import clean

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
    from benchmarks.config import plain

    for config, count in zip(configs, steps, strict=True):
        shown = {"run": config.label, "steps": count, **plain(config)}
        print("---")
        print(yaml.safe_dump(shown, sort_keys=False, allow_unicode=True).strip())
    print("---")
    print(yaml.safe_dump({"stream_summary": summary}, sort_keys=False, default_flow_style=None))


def _scan(config: Config) -> int:
    """List the images that cannot be read; 1 if there are any."""
    from benchmarks.scan import scan_images

    count, found = scan_images(config)
    for where, reason in found.items():
        print(f"{where}: {reason}")
    print(f"{count} images read, {len(found)} of them broken.")
    if found:
        print("Leave them out with --on-corrupt drop, which the record notes.")
    return int(bool(found))
