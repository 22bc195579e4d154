"""Operations that a step of each loss launches on an accelerator, and its peak of memory."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor
from tqdm import tqdm

from avalanche_proxyfda import DistillationLoss, L2SPLoss, LDIFSLoss
from benchmarks.perf.bounds import LAUNCHES
from benchmarks.perf.counting import Operations, memory_of
from benchmarks.perf.losses import LOSSES, Case, Size
from benchmarks.perf.report import machine, report, scale_axes
from benchmarks.perf.saved import peak_bytes

GIB, MIB = 2**30, 2**20
BOUNDS = LAUNCHES
_BATCHES = (64, 256, 1024)
_TOKENS, _MAPS, _UNITS, _WEIGHTS = 50, 5, 100, 152  # of ViT-B/32, and of a head of 100 classes


def _random(*shape: int) -> Tensor:
    return torch.empty(*shape, device="meta", requires_grad=True)


def _ldifs(size: Size) -> Callable[[], Tensor]:
    maps = [_random(size.batch, _TOKENS, size.dim) for _ in range(_MAPS)]
    return lambda: LDIFSLoss()(maps, maps)


def _lwf(size: Size) -> Callable[[], Tensor]:
    logits = _random(size.batch, _UNITS)
    return lambda: DistillationLoss()(logits, logits)


def _l2sp(size: Size) -> Callable[[], Tensor]:
    weights = [_random(size.dim, size.dim) for _ in range(_WEIGHTS)]
    anchors = [weight.detach() for weight in weights]
    return lambda: L2SPLoss()(weights, anchors)


_OTHERS = {"ldifs": _ldifs, "lwf": _lwf, "l2sp": _l2sp}
"""Losses on maps, logits and weights; each builds its inputs and returns the work of a step."""
NAMES = (*LOSSES, *_OTHERS)


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Count operations of forward and backward on torch's meta device.

    The counts are exact and equal on all machines. A kernel of an accelerator may be several
    launches, and a fused one none of its own.

    Raises:
        ValueError: for a memory, a width or a batch below 1.
    """
    batches = sorted(args.batches or ((16, 64) if args.quick else _BATCHES))
    for name, value in (("memory", args.memory), ("dim", args.dim), ("batches", batches[0])):
        if not value >= 1:
            raise ValueError(f"--{name} {value} must be at least 1")
    about = machine()
    plans = [(name, Size(batch, args.dim)) for name in args.losses for batch in batches]
    memory = int(args.memory * GIB)
    points = [_point(name, size, memory) for name, size in tqdm(plans, unit="size")]
    checked = {}
    if args.check:
        for bound in BOUNDS:
            name = bound.of.partition(",")[0]
            checked[bound.of] = float(_point(name, Size(256, 512), 80 * GIB)["launches"])
    settings = {
        "batches": list(batches),
        "dim": args.dim,
        "losses": list(args.losses),
        "memory_gib": args.memory,
        "quick": args.quick,
        "device": "meta",
    }
    return report("operations", settings, {"points": points}, {"points": points}, checked, about)


def _point(name: str, size: Size, memory: int) -> dict[str, Any]:
    compute = _OTHERS[name](size) if name in _OTHERS else Case(name, size, "meta").compute
    with memory_of(memory):
        with Operations() as seen:
            compute().backward()
        peak = peak_bytes(compute)
    return {
        "loss": name,
        "batch": size.batch,
        "dim": size.dim,
        "launches": seen.launches,
        "views": seen.views,
        "syncs": dict(seen.syncs),
        "peak": peak,
    }


def line(measured: Mapping[str, Any]) -> str:
    """Summarise the report in one line: the launches at the largest batch."""
    points = {p["loss"]: p for p in measured["summary"]["points"]}
    waits = sum(sum(p["syncs"].values()) for p in measured["summary"]["points"])
    parts = [f"{name} {p['launches']} at B = {p['batch']}" for name, p in points.items()]
    bound = "".join(f"; {of}: {value:.0f}" for of, value in measured["checked"].items())
    return f"operations a step: {'; '.join(parts)}; synchronisations: {waits}{bound}"


def draw(measured: Mapping[str, Any]) -> Figure:
    """Draw launches and peak over B."""
    points = measured["summary"]["points"]
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    panels: Any = figure.subplots(1, 2, sharex=True)
    for axes, what, unit, title in zip(
        panels, ("launches", "peak"), (1, MIB), ("operations a step", "peak, MiB"), strict=True
    ):
        for name in dict.fromkeys(p["loss"] for p in points):
            curve = [p for p in points if p["loss"] == name]
            axes.plot(
                [p["batch"] for p in curve],
                [p[what] / unit for p in curve],
                marker="o",
                markersize=3,
                label=name,
            )
        scale_axes(axes, title)
    panels[1].legend(fontsize=7, frameon=False)
    return figure


def table(measured: Mapping[str, Any]) -> str:
    """Format the report as a Markdown table: operations / MiB at the peak, a row a loss."""
    points = measured["summary"]["points"]
    batches = sorted({point["batch"] for point in points})
    rows = [
        "| loss | " + " | ".join(f"B = {batch}" for batch in batches) + " | waits |",
        "| --- |" + " --- |" * (len(batches) + 1),
    ]
    for name in dict.fromkeys(p["loss"] for p in points):
        point_of = {p["batch"]: p for p in points if p["loss"] == name}
        shown = [point_of[batch] for batch in batches]
        cells = [f"{p['launches']} / {p['peak'] / MIB:.3g}" for p in shown]
        waits = sum(sum(p["syncs"].values()) for p in point_of.values())
        rows.append(f"| {name} | {' | '.join(cells)} | {waits} |")
    rows += [f"\n{of}: {value:.0f} operations." for of, value in measured["checked"].items()]
    return "\n".join(rows)
