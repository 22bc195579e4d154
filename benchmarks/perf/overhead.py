"""What a step of each method takes, against a step of plain fine-tuning."""

from __future__ import annotations

import argparse
import gc
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from matplotlib.figure import Figure

from benchmarks.perf.arms import PLAIN, Arm, Bench, Setting, arm_of
from benchmarks.perf.bounds import STEP
from benchmarks.perf.report import machine, report
from benchmarks.perf.stats import ratios, spread, told
from benchmarks.perf.stepping import take_turns

CONTROL = f"{PLAIN} again"
"""Plain fine-tuning once more: what its ratio is off by, chance makes."""

HEATS: tuple[tuple[float, tuple[str, ...]], ...] = (
    (1.0, (CONTROL, "fda, cached", "proxy-fda, cached", "ldifs, cached")),
    (0.6, ("fda", "proxy-fda", "ldifs", "rkd", "lwf")),
    (0.4, ("rift", "l2sp", "digrap", "lp-ft", "wise-ft")),
)
"""Arms that take turns with plain fine-tuning, and their share of the rounds.

Not all at once: each has a model, an optimizer and perhaps a teacher, for ViT-B/32 1.7 GiB.
"""

BOUNDS = STEP


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of ``perf overhead``."""
    add_setting(parser)
    parser.add_argument("--rounds", type=int, default=None, help="measured steps of an arm; 5")
    parser.add_argument(
        "--arms", nargs="+", default=None, metavar="ARM",
        help="methods, 'fda, cached' for a teacher that is known; default: all, in three heats",
    )  # fmt: skip


def add_setting(parser: argparse.ArgumentParser) -> None:
    """Declare what :func:`setting_of` reads."""
    plain = Setting()
    parser.add_argument("--model", default=plain.model, help="of open_clip, or tiny-clip")
    parser.add_argument("--batch", type=int, default=plain.batch, help="B")
    parser.add_argument(
        "--batches", type=int, default=None, help="of an epoch; 1 on the CPU, 16 on a GPU"
    )
    parser.add_argument("--precision", choices=("float32", "bf16", "fp16"), default=plain.precision)
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--workers", type=int, default=plain.workers, help="of the loader")
    parser.add_argument("--seed", type=int, default=plain.seed)


def setting_of(args: argparse.Namespace) -> Setting:
    """The options as a setting; ``--quick`` takes the embedded model.

    Raises:
        ValueError: for a size that is too small, or a device that is not there.
    """
    device = args.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device not in ("cpu", "cuda") or (device == "cuda" and not torch.cuda.is_available()):
        raise ValueError(
            f"--device {args.device} is not to be had here: take cpu, or cuda on a GPU"
        )
    if args.batches is None:
        args.batches = 16 if device == "cuda" else 1
    for name, least in (("batch", 32), ("batches", 1), ("workers", 0), ("seed", 0)):
        if getattr(args, name) < least:
            raise ValueError(f"--{name} {getattr(args, name)} must be at least {least}")
    model = "tiny-clip" if args.quick and args.model == Setting().model else args.model
    return Setting(model, args.batch, args.batches, args.precision, device, args.workers, args.seed)


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """The report of all heats."""
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
        "overhead", {**asdict(setting), "rounds": rounds, "quick": args.quick}, {"heats": raw},
        summary, {name: line["ratio"]["median"] for name, line in summary.items()}, about,
    )  # fmt: skip


def heat(bench: Bench, arms: Sequence[Arm], rounds: int) -> dict[str, dict[str, Any]]:
    """Raw seconds by arm, plain fine-tuning among them, and what caches did."""
    entered = [arm_of(PLAIN), *(arm for arm in arms if arm.name != PLAIN)]
    with bench.started(entered) as (steppers, strategies):
        take_turns(steppers, bench.warm_up, bench.setting.seed, "warm-up")
        before = {name: cache_use(strategy) for name, strategy in strategies.items()}
        steps = take_turns(steppers, rounds, bench.setting.seed)
        found = {}
        for name, made in steps.items():
            use = {key: n - before[name][key] for key, n in cache_use(strategies[name]).items()}
            found[name] = {
                "seconds": [step.seconds for step in made],
                "cpu_seconds": [step.cpu_seconds for step in made],
                **use,
            }
            if name.endswith(", cached") and use["cache_hits"] < use["cache_lookups"]:
                raise ValueError(f"{name}: not all of the teacher's answers were known: {use}")
    del steppers, strategies
    gc.collect()
    return found


def cache_use(strategy: Any) -> dict[str, int]:
    """What a strategy's plugins count: samples looked up and found, forwards of teachers."""
    return {
        name: sum(getattr(plugin, name, 0) for plugin in strategy.plugins)
        for name in ("cache_lookups", "cache_hits", "teacher_forwards")
    }


def summarise(heats: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """By arm: seconds, and the ratio to plain fine-tuning in the same rounds."""
    made: dict[str, Any] = {}
    for one in heats:
        plain = one["steps"][PLAIN]
        for name, steps in one["steps"].items():
            if name == PLAIN:
                continue
            made[name] = {
                "rounds": one["rounds"],
                "seconds": spread(steps["seconds"]),
                "ratio": spread(ratios(steps["seconds"], plain["seconds"])),
                "cpu_ratio": spread(ratios(steps["cpu_seconds"], plain["cpu_seconds"])),
            }
    return made


def line(made: Mapping[str, Any]) -> str:
    """The summary, in one line."""
    told_of = made["settings"]
    where = f"{told_of['model']}, B = {told_of['batch']}, {told_of['precision']}"
    parts = [f"{name} {told(found['ratio'])}" for name, found in made["summary"].items()]
    return f"x plain fine-tuning ({where}, {made['machine']['device']}): {'; '.join(parts)}"


def draw(made: Mapping[str, Any]) -> Figure:
    """A dot and its quartiles for each arm."""
    found = made["summary"]
    figure = Figure(figsize=(7, 0.32 * len(found) + 1.2), layout="constrained")
    axes: Any = figure.add_subplot()
    for place, (name, one) in enumerate(found.items()):
        ratio = one["ratio"]
        colour = "#0969da" if name.endswith("cached") else "#57606a"
        axes.plot([ratio["low"], ratio["high"]], [place, place], color=colour, linewidth=2)
        axes.plot(ratio["median"], place, "o", color=colour, markersize=5)
    for bound in BOUNDS:
        if bound.of in found:
            axes.plot(bound.most, list(found).index(bound.of), "|", color="#cf222e", markersize=12)
    axes.axvline(1, color="#888", linewidth=0.8)
    axes.set_yticks(range(len(found)), list(found))
    axes.set_ylim(len(found) - 0.5, -0.5)
    axes.set_xlabel("step time, × plain fine-tuning: median and quartiles; red: the bound")
    told_of = made["settings"]
    axes.set_title(
        f"{told_of['model']}, B = {told_of['batch']}, {told_of['precision']}", fontsize=10
    )
    return figure


def table(made: Mapping[str, Any]) -> str:
    """Markdown."""
    rows = [
        "| method | step, s | × plain | its CPU time, × plain | rounds |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, found in made["summary"].items():
        rows.append(
            f"| {name} | {found['seconds']['median']:.3f} | {told(found['ratio'])} | "
            f"{told(found['cpu_ratio'])} | {found['rounds']} |"
        )
    return "\n".join(rows)
