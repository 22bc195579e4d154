"""What a teacher's cache costs while it fills, saves when it is full, and takes."""

from __future__ import annotations

import argparse
import gc
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from benchmarks.perf import overhead
from benchmarks.perf.arms import PLAIN, Arm, Bench, arm_of
from benchmarks.perf.bounds import STEP
from benchmarks.perf.overhead import cache_use, setting_of
from benchmarks.perf.report import machine, report
from benchmarks.perf.stats import ratios, spread, told
from benchmarks.perf.stepping import take_turns

BOUNDS = STEP
MIB = 2**20
LIVE = "live"
_PLACES = (("memory", False), ("file", True))
_DTYPES = (("float32", None), ("float16", "float16"))


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of ``perf cache``."""
    parser.add_argument("--method", default="proxy-fda", help="one with a teacher")
    overhead.add_setting(parser)
    parser.set_defaults(batch=32, batches=3)
    parser.add_argument("--rounds", type=int, default=None, help="measured steps when full; 3")


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Two groups that take turns with plain fine-tuning: caches in memory, and in files."""
    setting = setting_of(args)
    if setting.batches < 2:
        raise ValueError(f"--batches {setting.batches}: one begins the cache, one more fills it")
    rounds = args.rounds or (2 if args.quick else 3)
    arm_of(f"{args.method}, cached")  # refuses a method without a teacher
    about, bench = machine(setting.device), Bench(setting)
    raw: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for place, in_file in _PLACES:
            arms = [] if in_file else [Arm(LIVE, args.method, {"teacher_cache": "off"})]
            for name, dtype in _DTYPES:
                options: dict[str, Any] = {"teacher_cache": "exact", "cache_dtype": dtype}
                if in_file:
                    options["cache_dir"] = str(Path(folder) / name)
                arms.append(Arm(f"{place}, {name}", args.method, options))
            raw[place] = _group(bench, arms, rounds)
    summary = summarise(raw)
    settings = {**asdict(setting), "method": args.method, "rounds": rounds, "quick": args.quick}
    checked = {
        f"{args.method}{'' if name == LIVE else ', cached'}": one["full"]["median"]
        for name, one in summary.items() if name in (LIVE, "memory, float32")
    }  # fmt: skip
    return report("cache", settings, raw, summary, checked, about)


def _group(bench: Bench, arms: Sequence[Arm], rounds: int) -> dict[str, Any]:
    """Seconds of every phase by arm, what caches did in it, and what they take."""
    seed, batches = bench.setting.seed, bench.setting.batches
    phases = {"first": 1, "filling": batches - 1, "full": rounds}
    found: dict[str, Any] = {}
    with bench.started([arm_of(PLAIN), *arms]) as (steppers, strategies):
        for phase, count in phases.items():
            before = {name: cache_use(strategy) for name, strategy in strategies.items()}
            for name, steps in take_turns(steppers, count, seed, phase).items():
                use = {k: n - before[name][k] for k, n in cache_use(strategies[name]).items()}
                one = found.setdefault(name, {"phases": {}})
                one["phases"][phase] = {"seconds": [step.seconds for step in steps], **use}
        for arm in arms:
            found[arm.name] |= _bytes(strategies[arm.name], arm.options.get("cache_dir"))
    del steppers, strategies
    gc.collect()
    return found


def _bytes(strategy: Any, folder: str | None) -> dict[str, int]:
    """Bytes that the cache told before the first step, and those that it takes."""
    (plugin,) = (p for p in strategy.plugins if hasattr(p, "cache_hits"))
    cache = plugin.reference.cache
    if cache is None:
        return {}
    views, row = re.findall(r"([\d,]+) views x ([\d,]+) B", cache.about)[0]
    told_of = int(views.replace(",", "")) * int(row.replace(",", ""))
    taken = cache.store.nbytes
    if folder is not None:
        taken = sum(file.stat().st_size for file in Path(folder).iterdir())
    return {"told": told_of, "taken": taken}


def summarise(raw: Mapping[str, Any]) -> dict[str, Any]:
    """By arm: hit rates, ratios to plain fine-tuning in the same rounds, bytes."""
    made: dict[str, Any] = {}
    for group in raw.values():
        plain = group[PLAIN]["phases"]
        for name, one in group.items():
            if name == PLAIN:
                continue
            phases = one["phases"]
            line_of: dict[str, Any] = {
                phase: spread(ratios(phases[phase]["seconds"], plain[phase]["seconds"]))
                for phase in ("filling", "full")
            }
            line_of["hit_rates"] = {
                phase: use["cache_hits"] / use["cache_lookups"] if use["cache_lookups"] else None
                for phase, use in phases.items()
            }
            made[name] = line_of | {key: one[key] for key in ("told", "taken") if key in one}
    return made


def line(made: Mapping[str, Any]) -> str:
    """The summary, in one line."""
    settings = made["settings"]
    parts = [
        f"{name} {told(one['filling'], 2)} filling, {told(one['full'])} full"
        for name, one in made["summary"].items()
    ]
    where = f"{settings['method']}, {settings['model']}, B = {settings['batch']}"
    return f"x plain fine-tuning ({where}, {made['machine']['device']}): {'; '.join(parts)}"


def draw(made: Mapping[str, Any]) -> Figure:
    """Filling and full, for each cache, with quartiles."""
    found = made["summary"]
    figure = Figure(figsize=(7, 0.4 * len(found) + 1.3), layout="constrained")
    axes: Any = figure.add_subplot()
    for phase, colour, up in (("filling", "#b35900", 0.12), ("full", "#0969da", -0.12)):
        for place, one in enumerate(found.values()):
            ratio, height = one[phase], place - up
            axes.plot([ratio["low"], ratio["high"]], [height, height], color=colour, linewidth=2)
            axes.plot(ratio["median"], height, "o", color=colour, markersize=5,
                      label=None if place else phase)  # fmt: skip
    axes.axvline(1, color="#888", linewidth=0.8)
    axes.set_yticks(range(len(found)), list(found))
    axes.set_ylim(len(found) - 0.5, -0.5)
    axes.set_xlabel("step time, × plain fine-tuning: median and quartiles")
    axes.legend(fontsize=8, frameon=False)
    return figure


def table(made: Mapping[str, Any]) -> str:
    """Markdown."""
    rows = [
        "| teacher | filling, × plain | full, × plain | hits filling | hits full | told, MiB | taken, MiB |",  # noqa: E501
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, one in made["summary"].items():
        rates = ["" if one["hit_rates"][p] is None else f"{100 * one['hit_rates'][p]:.0f} %"
                 for p in ("filling", "full")]  # fmt: skip
        sizes = [f"{one[key] / MIB:.3f}" if key in one else "" for key in ("told", "taken")]
        cells = [name, told(one["filling"]), told(one["full"]), *rates, *sizes]
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)
