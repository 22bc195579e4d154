"""Step time of each method, relative to plain fine-tuning."""

from __future__ import annotations

import argparse
import gc
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from matplotlib.figure import Figure

from avalanche_proxyfda._accelerator import best_device
from benchmarks.config.numbers import check_seed
from benchmarks.methods.registry import METHODS
from benchmarks.perf.arms import PLAIN, Arm, Bench, arm_of
from benchmarks.perf.bounds import STEP
from benchmarks.perf.options import Setting, workers_of
from benchmarks.perf.report import machine, report
from benchmarks.perf.stats import format_spread, ratios, spread
from benchmarks.perf.stepping import take_turns

CONTROL = f"{PLAIN} again"
"""Plain fine-tuning once more: the deviation of its ratio from 1 is chance."""

_SECOND = ("fda", "proxy-fda", "ldifs", "rkd", "lwf")
_THIRD = ("rift", "l2sp", "digrap", "lp-ft", "wise-ft", "frozen")
_SETS = ("wise-ft + soft-fda", "soft-fda + ldifs")
_OTHERS = tuple(name for name in METHODS if name not in (PLAIN, *_SECOND, *_THIRD))

HEATS: tuple[tuple[float, tuple[str, ...]], ...] = (
    (1.0, (CONTROL, "fda, cached", "proxy-fda, cached", "ldifs, cached")),
    (0.6, _SECOND),
    (0.4, (*_THIRD, *_OTHERS)),
    (0.4, tuple(f"{name}{kind}" for name in _SETS for kind in ("", ", cached"))),
)
"""Share of the rounds, and the arms that take turns with plain fine-tuning, by heat.

A method that no heat names takes turns in the third one.

A heat has few arms, since each arm has a model, an optimizer and perhaps a teacher: for
ViT-B/32 1.7 GiB.
"""

BOUNDS = STEP


def setting_of(args: argparse.Namespace) -> Setting:
    """Make a setting from the options; ``--quick`` uses the embedded model.

    Raises:
        ValueError: if a number is too small, or the device does not exist.
    """
    device = args.device
    if device == "auto":
        device = best_device().type
    if device not in ("cpu", best_device().type):
        raise ValueError(
            f"--device {args.device} does not exist here: give auto, cpu, or the type of an "
            "accelerator that this machine has"
        )
    if args.batches is None:
        args.batches = 1 if device == "cpu" else 16
    if args.workers is None:
        args.workers = workers_of(device)
    for name, least in (("batch", 32), ("batches", 1), ("workers", 0)):
        if getattr(args, name) < least:
            raise ValueError(f"--{name} {getattr(args, name)} must be at least {least}")
    check_seed("--seed", args.seed)
    model = "tiny-clip" if args.quick and args.model == Setting().model else args.model
    return Setting(model, args.batch, args.batches, args.precision, device, args.workers, args.seed)


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Measure all heats and return the report.

    Raises:
        ValueError: if an option is refused.
    """
    setting = setting_of(args)
    rounds = args.rounds or (3 if args.quick else 5)
    heats = HEATS if args.arms is None else ((1.0, tuple(args.arms)),)
    planned = [(max(2, round(rounds * share)), names) for share, names in heats]
    lines = [[arm_of(name) for name in names] for _, names in planned]
    about, bench = machine(setting.device), Bench(setting)
    raw = [
        {"rounds": count, "steps": heat(bench, arms, count)}
        for (count, _), arms in zip(planned, lines, strict=True)
    ]
    summary = summarise(raw)
    return report(
        "overhead",
        {**asdict(setting), "rounds": rounds, "quick": args.quick},
        {"heats": raw},
        summary,
        {name: line["ratio"]["median"] for name, line in summary.items()},
        about,
    )


def heat(bench: Bench, arms: Sequence[Arm], rounds: int) -> dict[str, dict[str, Any]]:
    """Measure one heat.

    Args:
        bench: model and images.
        arms: arms of the heat; plain fine-tuning is added.
        rounds: measured steps an arm.

    Returns:
        Seconds, CPU seconds and use of caches, by arm.

    Raises:
        ValueError: if a cached teacher still computes features.
    """
    entered = [arm_of(PLAIN), *(arm for arm in arms if arm.name != PLAIN)]
    with bench.started(entered) as (steppers, strategies):
        take_turns(steppers, bench.warm_up, bench.setting.seed, "warm-up")
        before = {name: cache_use(strategy) for name, strategy in strategies.items()}
        steps = take_turns(steppers, rounds, bench.setting.seed)
        results = {}
        for name, arm_steps in steps.items():
            use = {key: n - before[name][key] for key, n in cache_use(strategies[name]).items()}
            results[name] = {
                "seconds": [step.seconds for step in arm_steps],
                "cpu_seconds": [step.cpu_seconds for step in arm_steps],
                **use,
            }
            if name.endswith(", cached") and use["cache_hits"] < use["cache_lookups"]:
                raise ValueError(f"{name}: the cache does not hold all teacher features: {use}")
    del steppers, strategies
    gc.collect()
    return results


def cache_use(strategy: Any) -> dict[str, int]:
    """Counts of a strategy's plugins: cache lookups, cache hits, teacher forwards."""
    return {
        name: sum(getattr(plugin, name, 0) for plugin in strategy.plugins)
        for name in ("cache_lookups", "cache_hits", "teacher_forwards")
    }


def summarise(heats: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Summarise heats by arm: seconds, and ratios to plain fine-tuning in the same rounds."""
    summary: dict[str, Any] = {}
    for one in heats:
        plain = one["steps"][PLAIN]
        for name, steps in one["steps"].items():
            if name == PLAIN:
                continue
            summary[name] = {
                "rounds": one["rounds"],
                "seconds": spread(steps["seconds"]),
                "ratio": spread(ratios(steps["seconds"], plain["seconds"])),
                "cpu_ratio": spread(ratios(steps["cpu_seconds"], plain["cpu_seconds"])),
            }
    return summary


def line(measured: Mapping[str, Any]) -> str:
    """Summarise the report in one line."""
    where = f"{_about(measured['settings'])}, {measured['machine']['device']}"
    parts = [f"{name} {format_spread(arm['ratio'])}" for name, arm in measured["summary"].items()]
    return f"x plain fine-tuning ({where}): {'; '.join(parts)}"


def _about(settings: Mapping[str, Any]) -> str:
    return f"{settings['model']}, B = {settings['batch']}, {settings['precision']}"


def draw(measured: Mapping[str, Any]) -> Figure:
    """Draw the median and the quartiles of each arm."""
    summary = measured["summary"]
    figure = Figure(figsize=(7, 0.32 * len(summary) + 1.2), layout="constrained")
    axes: Any = figure.add_subplot()
    for place, (name, arm) in enumerate(summary.items()):
        ratio = arm["ratio"]
        colour = "#0969da" if name.endswith("cached") else "#57606a"
        axes.plot([ratio["low"], ratio["high"]], [place, place], color=colour, linewidth=2)
        axes.plot(ratio["median"], place, "o", color=colour, markersize=5)
    for bound in BOUNDS:
        if bound.of in summary:
            height = list(summary).index(bound.of)
            axes.plot(bound.most, height, "|", color="#cf222e", markersize=12)
    axes.axvline(1, color="#888", linewidth=0.8)
    axes.set_yticks(range(len(summary)), list(summary))
    axes.set_ylim(len(summary) - 0.5, -0.5)
    axes.set_xlabel("step time, × plain fine-tuning: median and quartiles; red: the bound")
    axes.set_title(_about(measured["settings"]), fontsize=10)
    return figure


def table(measured: Mapping[str, Any]) -> str:
    """Format the report as a Markdown table."""
    rows = [
        "| method | step, s | × plain | its CPU time, × plain | rounds |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, arm in measured["summary"].items():
        rows.append(
            f"| {name} | {arm['seconds']['median']:.3f} | {format_spread(arm['ratio'])} | "
            f"{format_spread(arm['cpu_ratio'])} | {arm['rounds']} |"
        )
    return "\n".join(rows)
