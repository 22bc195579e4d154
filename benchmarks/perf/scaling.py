"""Time of the losses over B, D and K, and of a training step on one rank and on several."""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from matplotlib.figure import Figure
from tqdm import tqdm

from avalanche_proxyfda._accelerator import best_device, device_count, synchronize
from benchmarks.perf.bounds import Bound
from benchmarks.perf.losses import BATCHES, DIMS, Case, Size, too_long
from benchmarks.perf.rank_steps import on_ranks
from benchmarks.perf.report import machine, report, scale_axes
from benchmarks.perf.stats import spread

BOUNDS: tuple[Bound, ...] = ()
_LONG = 5.0  # seconds; a longer step is measured once
_WIDTH, _BATCH = 512, 256  # D while B varies, and B while D or K varies
_OVER_DIM = ("fda", "proxy-fda")
_NEIGHBORS = (4, 8, 16, 32, 64)


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Measure forward and backward of the losses, then steps on ranks.

    Raises:
        ValueError: for more ranks than accelerators, or if the ranks fail.
    """
    device = args.device
    if device == "auto":
        device = best_device().type
    default = [] if args.quick else ranks_of(device)
    ranks = default if args.ranks is None else check_ranks(args.ranks, device)
    about = machine(device)
    batches = sorted(args.batches or ((16, 64) if args.quick else BATCHES))
    repeats = args.repeats or (2 if args.quick else 5)
    points: list[dict[str, Any]] = []
    left_out: list[dict[str, Any]] = []
    for over, name, sizes in tqdm(_plans(args.losses, batches, args.quick), unit="loss"):
        last, seconds = None, None
        for size in sizes:
            expected = too_long(seconds, size, last, args.budget)
            point = {
                "over": over,
                "loss": name,
                "batch": size.batch,
                "dim": size.dim,
                "neighbors": size.neighbors,
            }
            if expected is not None:
                left_out.append(point | {"expected_seconds": expected})
                continue
            taken = time_of(Case(name, size, device), repeats)
            points.append(point | {"seconds": taken})
            last, seconds = size, statistics.median(taken)
    model = args.model or ("tiny-clip" if args.quick else "ViT-B-32")
    shared = {str(n): on_ranks(n, model, 32, 3, torch.device(device).type) for n in ranks}
    summary = {
        "points": [{**p, "seconds": spread(p["seconds"])} for p in points],
        "left_out": left_out,
        "ranks": {
            n: {name: spread(taken) for name, taken in steps.items()} for n, steps in shared.items()
        },
    }
    settings = {
        "batches": batches,
        "losses": list(args.losses),
        "repeats": repeats,
        "device": device,
        "budget": args.budget,
        "ranks": ranks,
        "model": model,
        "quick": args.quick,
    }
    return report("scaling", settings, {"points": points, "ranks": shared}, summary, {}, about)


def ranks_of(device: str) -> list[int]:
    """Return the numbers of ranks to compare: 1, and a rank for each accelerator, 2 on a CPU.

    With a single accelerator a line on stderr says that no second rank is measured.

    Example:
        >>> ranks_of("cpu")
        [1, 2]
    """
    most = 2 if _is_cpu(device) else device_count(device)
    if most < 2:
        print("one accelerator: steps are measured on one rank alone", file=sys.stderr)
    return [1] if most < 2 else [1, most]


def check_ranks(ranks: Sequence[int], device: str) -> list[int]:
    """Return the numbers of ranks.

    Raises:
        ValueError: for a number below 1, or above the number of accelerators: each rank needs
            an accelerator of its own.
    """
    for n in ranks:
        if n < 1:
            raise ValueError(f"--ranks {n} must be at least 1")
        if not _is_cpu(device) and n > device_count(device):
            raise ValueError(
                f"--ranks {n}: each rank needs an accelerator of its own, and this machine has "
                f"{device_count(device)}; lower --ranks, or pass --device cpu"
            )
    return list(ranks)


def _is_cpu(device: str) -> bool:
    return torch.device(device).type == "cpu"


def _plans(
    losses: Sequence[str], batches: Sequence[int], quick: bool
) -> list[tuple[str, str, list[Size]]]:
    plans = [("B", name, [Size(batch, _WIDTH) for batch in batches]) for name in losses]
    if not quick:
        for name in (n for n in losses if n in _OVER_DIM):
            plans.append(("D", name, [Size(_BATCH, dim) for dim in DIMS]))
            plans.append(("K", name, [Size(_BATCH, _WIDTH, k) for k in _NEIGHBORS]))
    return plans


def time_of(case: Case, repeats: int) -> list[float]:
    """Time each forward and backward, in seconds; a short first one is a warm-up."""
    taken: list[float] = []
    for number in range(-1, repeats):
        started = _now(case)
        case.step()
        taken.append(_now(case) - started)
        if number == -1 and taken[0] <= _LONG:
            taken.clear()
        elif sum(taken) > _LONG:
            break
    return taken


def _now(case: Case) -> float:
    synchronize(case.student.device)
    return time.perf_counter()


def line(measured: Mapping[str, Any]) -> str:
    """Summarise the report in one line: the largest batch of each loss, the gain by ranks."""
    largest = {p["loss"]: p for p in measured["summary"]["points"] if p["over"] == "B"}
    parts = [
        f"{name} {p['seconds']['median']:.3g} at B = {p['batch']}" for name, p in largest.items()
    ]
    ranks = measured["summary"]["ranks"]
    for n, steps in ranks.items():
        if n != "1" and "1" in ranks:
            for name, seconds in steps.items():
                gain = ranks["1"][name]["median"] / seconds["median"]
                parts.append(f"{name} on {n} ranks {gain:.2f} x as fast as on one")
    return f"seconds of forward and backward (D = {_WIDTH}): {'; '.join(parts)}"


def draw(measured: Mapping[str, Any]) -> Figure:
    """Draw seconds over B, D and K."""
    points = measured["summary"]["points"]
    kinds = [kind for kind in ("B", "D", "K") if any(p["over"] == kind for p in points)]
    keys = {"B": "batch", "D": "dim", "K": "neighbors"}
    names = list(dict.fromkeys(p["loss"] for p in points))
    figure = Figure(figsize=(3.6 * len(kinds) + 1.5, 3.6), layout="constrained")
    panels: Any = figure.subplots(1, len(kinds), squeeze=False)[0]
    for axes, kind in zip(panels, kinds, strict=True):
        for number, name in enumerate(names):
            curve = [p for p in points if (p["over"], p["loss"]) == (kind, name)]
            if curve:
                axes.plot(
                    [p[keys[kind]] for p in curve],
                    [p["seconds"]["median"] for p in curve],
                    marker="o",
                    markersize=3,
                    color=f"C{number}",
                    label=name,
                )
        fixed = {"B": f"D = {_WIDTH}", "D": f"B = {_BATCH}", "K": f"B = {_BATCH}, D = {_WIDTH}"}
        scale_axes(axes, fixed[kind], over=kind)
    panels[0].set_ylabel("seconds, forward and backward")
    panels[0].legend(fontsize=7, frameon=False)
    return figure


def table(measured: Mapping[str, Any]) -> str:
    """Format the report as Markdown tables: milliseconds over B, D and K, then ranks."""
    parts = []
    for kind, key in (("B", "batch"), ("D", "dim"), ("K", "neighbors")):
        points = [p for p in measured["summary"]["points"] if p["over"] == kind]
        values = sorted({p[key] for p in points})
        if not points:
            continue
        rows = [
            "| ms | " + " | ".join(f"{kind} = {value}" for value in values) + " |",
            "| --- |" + " --- |" * len(values),
        ]
        for name in dict.fromkeys(p["loss"] for p in points):
            seconds = {p[key]: p["seconds"]["median"] for p in points if p["loss"] == name}
            cells = [f"{1000 * seconds[v]:.3g}" if v in seconds else "" for v in values]
            rows.append(f"| {name} | {' | '.join(cells)} |")
        parts.append("\n".join(rows))
    ranks = measured["summary"]["ranks"]
    if ranks:
        names = list(next(iter(ranks.values())))
        rows = [
            "| ranks | " + " | ".join(f"{name}, s" for name in names) + " |",
            "| --- |" + " --- |" * len(names),
        ]
        rows += [
            f"| {n} | " + " | ".join(f"{steps[name]['median']:.3f}" for name in names) + " |"
            for n, steps in ranks.items()
        ]
        parts.append("\n".join(rows))
    return "\n\n".join(parts)
