"""The teacher's cache: step time while it fills and when it is full, hits, and bytes."""

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

from benchmarks.perf.arms import PLAIN, Arm, Bench, arm_of
from benchmarks.perf.bounds import STEP
from benchmarks.perf.overhead import cache_use, setting_of
from benchmarks.perf.report import machine, report
from benchmarks.perf.stats import format_spread, ratios, spread
from benchmarks.perf.stepping import take_turns

BOUNDS = STEP
MIB = 2**20
LIVE = "live"
_PLACES = (("memory", False), ("file", True))
_DTYPES = (("float32", None), ("float16", "float16"))


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Measure caches in memory, then caches in files, in turns with plain fine-tuning.

    Raises:
        ValueError: if an option is refused, or the method has no teacher.
    """
    setting = setting_of(args)
    if setting.batches < 2:
        raise ValueError(
            f"--batches {setting.batches}: give at least 2; the first begins the cache"
        )
    rounds = args.rounds or (2 if args.quick else 3)
    arm_of(f"{args.method}, cached")  # raises if the method has no teacher
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
        f"{args.method}{'' if name == LIVE else ', cached'}": arm["full"]["median"]
        for name, arm in summary.items()
        if name in (LIVE, "memory, float32")
    }
    return report("cache", settings, raw, summary, checked, about)


def _group(bench: Bench, arms: Sequence[Arm], rounds: int) -> dict[str, Any]:
    """Seconds and cache use of every phase, and bytes of the cache, by arm."""
    seed, batches = bench.setting.seed, bench.setting.batches
    phases = {"first": 1, "filling": batches - 1, "full": rounds}
    results: dict[str, Any] = {}
    with bench.started([arm_of(PLAIN), *arms]) as (steppers, strategies):
        for phase, count in phases.items():
            before = {name: cache_use(strategy) for name, strategy in strategies.items()}
            for name, steps in take_turns(steppers, count, seed, phase).items():
                use = {k: n - before[name][k] for k, n in cache_use(strategies[name]).items()}
                arm_result = results.setdefault(name, {"phases": {}})
                arm_result["phases"][phase] = {"seconds": [step.seconds for step in steps], **use}
        for arm in arms:
            results[arm.name] |= _bytes(strategies[arm.name], arm.options.get("cache_dir"))
    del steppers, strategies
    gc.collect()
    return results


def _bytes(strategy: Any, folder: str | None) -> dict[str, int]:
    """Bytes that the cache announces before the first step, and bytes that it takes."""
    (plugin,) = (p for p in strategy.plugins if hasattr(p, "cache_hits"))
    cache = plugin.reference.cache
    if cache is None:
        return {}
    views, row = re.findall(r"([\d,]+) views x ([\d,]+) B", cache.about)[0]
    announced = int(views.replace(",", "")) * int(row.replace(",", ""))
    taken = cache.store.nbytes
    if folder is not None:
        taken = sum(file.stat().st_size for file in Path(folder).iterdir())
    return {"told": announced, "taken": taken}


def summarise(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Summarise by arm: hit rates, bytes, ratios to plain fine-tuning in the same rounds."""
    summary: dict[str, Any] = {}
    for group in raw.values():
        plain = group[PLAIN]["phases"]
        for name, arm in group.items():
            if name == PLAIN:
                continue
            phases = arm["phases"]
            arm_summary: dict[str, Any] = {
                phase: spread(ratios(phases[phase]["seconds"], plain[phase]["seconds"]))
                for phase in ("filling", "full")
            }
            arm_summary["hit_rates"] = {
                phase: use["cache_hits"] / use["cache_lookups"] if use["cache_lookups"] else None
                for phase, use in phases.items()
            }
            sizes = {key: arm[key] for key in ("told", "taken") if key in arm}
            summary[name] = arm_summary | sizes
    return summary


def line(measured: Mapping[str, Any]) -> str:
    """Summarise the report in one line."""
    settings = measured["settings"]
    parts = [
        f"{name} {format_spread(arm['filling'], 2)} filling, {format_spread(arm['full'])} full"
        for name, arm in measured["summary"].items()
    ]
    where = f"{settings['method']}, {settings['model']}, B = {settings['batch']}"
    return f"x plain fine-tuning ({where}, {measured['machine']['device']}): {'; '.join(parts)}"


def draw(measured: Mapping[str, Any]) -> Figure:
    """Draw the median and the quartiles of both phases, for each cache."""
    summary = measured["summary"]
    figure = Figure(figsize=(7, 0.4 * len(summary) + 1.3), layout="constrained")
    axes: Any = figure.add_subplot()
    for phase, colour, up in (("filling", "#b35900", 0.12), ("full", "#0969da", -0.12)):
        for place, arm in enumerate(summary.values()):
            ratio, height = arm[phase], place - up
            axes.plot([ratio["low"], ratio["high"]], [height, height], color=colour, linewidth=2)
            axes.plot(
                ratio["median"],
                height,
                "o",
                color=colour,
                markersize=5,
                label=None if place else phase,
            )
    axes.axvline(1, color="#888", linewidth=0.8)
    axes.set_yticks(range(len(summary)), list(summary))
    axes.set_ylim(len(summary) - 0.5, -0.5)
    axes.set_xlabel("step time, × plain fine-tuning: median and quartiles")
    axes.legend(fontsize=8, frameon=False)
    return figure


def table(measured: Mapping[str, Any]) -> str:
    """Format the report as a Markdown table."""
    rows = [
        "| teacher | filling, × plain | full, × plain | hits filling | hits full | announced, MiB | taken, MiB |",  # noqa: E501
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, arm in measured["summary"].items():
        rates = [
            "" if arm["hit_rates"][p] is None else f"{100 * arm['hit_rates'][p]:.0f} %"
            for p in ("filling", "full")
        ]
        sizes = [f"{arm[key] / MIB:.3f}" if key in arm else "" for key in ("told", "taken")]
        cells = [name, format_spread(arm["filling"]), format_spread(arm["full"]), *rates, *sizes]
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)
