"""Bytes that the losses save for backward, and the peak of their memory."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import torch
from matplotlib.figure import Figure
from tqdm import tqdm

from avalanche_proxyfda._accelerator import (
    allocated_memory,
    best_device,
    peak_memory,
    reset_peak_memory,
    synchronize,
)
from benchmarks.perf.bounds import SAVED
from benchmarks.perf.losses import BATCHES, CHUNKED, DIMS, Case, Size, kept_whole, too_long
from benchmarks.perf.report import machine, report, scale_axes
from benchmarks.perf.saved import peak_bytes, saved_bytes

MIB = 2**20
BOUNDS = SAVED
_BOUNDED = ("proxy-fda", Size(1024, 768))


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Count bytes on torch's meta device; the counts are exact and equal on all machines.

    The chunks are those of a CPU; ``perf operations`` simulates an accelerator. With a GPU, the
    peak of a real step is measured too.
    """
    batches = args.batches or ((16, 64) if args.quick else BATCHES)
    dims = args.dims or ((512,) if args.quick else DIMS)
    device = best_device()
    about = machine(device.type)
    points: list[dict[str, Any]] = []
    left_out: list[dict[str, Any]] = []
    plans = [
        (name, way, dim)
        for dim in dims
        for name in args.losses
        for way in (("chunked", "whole") if name in CHUNKED else ("as it is",))
    ]
    with tqdm(total=len(plans) * len(batches), unit="size", mininterval=2) as bar:
        for name, way, dim in plans:
            last, seconds = None, None
            for batch in sorted(batches):
                bar.set_description(f"{name}, {way}, B = {batch}, D = {dim}")
                size = Size(batch, dim)
                expected = too_long(seconds, size, last, args.budget)
                if expected is None:
                    started = time.process_time()
                    points.append(_point(name, way, size, device))
                    last, seconds = size, time.process_time() - started
                else:
                    left_out.append(_named(name, way, size) | {"expected_seconds": expected})
                bar.update()
    checked = {}
    if args.check:
        checked[SAVED[0].of] = _bounded(points)
    settings = {
        "batches": list(batches),
        "dims": list(dims),
        "losses": list(args.losses),
        "budget": args.budget,
        "quick": args.quick,
        "device": "meta" if device.type == "cpu" else device.type,
    }
    summary = {"points": points, "left_out": left_out}
    return report("memory", settings, {"points": points}, summary, checked, about)


def _named(name: str, way: str, size: Size) -> dict[str, Any]:
    return {"loss": name, "way": way, "batch": size.batch, "dim": size.dim}


def _point(name: str, way: str, size: Size, device: torch.device) -> dict[str, Any]:
    with kept_whole() if way == "whole" else nullcontext():
        case = Case(name, size, "meta")
        saved = saved_bytes(case.compute, case.given)
        point = _named(name, way, size) | {"saved": saved, "peak": peak_bytes(case.compute)}
        if device.type != "cpu":
            point["gpu_peak"] = _gpu_peak(name, size, device)
    return point


def _gpu_peak(name: str, size: Size, device: torch.device) -> int | None:
    """Peak bytes of a real step; None if the memory is too small, or the device counts none."""
    case = Case(name, size, device.type)
    try:
        case.step()  # kernels allocate a workspace at their first use
        synchronize(device)
        before = allocated_memory(device)
        reset_peak_memory(device)
        case.step()
        synchronize(device)
    except RuntimeError as error:
        if "out of memory" not in str(error):
            raise
        return None
    peak = peak_memory(device)
    return None if peak is None or before is None else peak - before


def _bounded(points: list[dict[str, Any]]) -> float:
    """MiB saved at the size with a bound; measured now if it is not among ``points``."""
    name, size = _BOUNDED
    wanted = _named(name, "chunked", size)
    for point in points:
        if {key: point[key] for key in wanted} == wanted:
            return float(point["saved"]) / MIB
    case = Case(name, size, "meta")
    return saved_bytes(case.compute, case.given) / MIB


def line(measured: Mapping[str, Any]) -> str:
    """Summarise the report in one line: the largest batch of each loss."""
    largest: dict[str, Mapping[str, Any]] = {}
    for point in measured["summary"]["points"]:
        key = f"{point['loss']}, {point['way']}"
        if key not in largest or (point["batch"], point["dim"]) >= (
            largest[key]["batch"],
            largest[key]["dim"],
        ):
            largest[key] = point
    parts = [
        f"{key} {p['saved'] / MIB:.1f} at B = {p['batch']}, D = {p['dim']}"
        for key, p in largest.items()
    ]
    bound = "".join(f"; {of}: {value:.1f}" for of, value in measured["checked"].items())
    return f"MiB saved for backward: {'; '.join(parts)}{bound}"


def draw(measured: Mapping[str, Any]) -> Figure:
    """Draw saved and peak bytes over B, at the median width."""
    points = measured["summary"]["points"]
    dims = sorted({point["dim"] for point in points})
    dim = dims[len(dims) // 2]
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    panels: Any = figure.subplots(1, 2, sharex=True, sharey=True)
    for axes, what, title in zip(
        panels,
        ("saved", "peak"),
        ("saved for backward", "peak of forward and backward"),
        strict=True,
    ):
        names = list(dict.fromkeys(point["loss"] for point in points))
        for number, name in enumerate(names):
            for way, style in (("chunked", "-"), ("whole", ":"), ("as it is", "-")):
                curve = [p for p in points if (p["loss"], p["way"], p["dim"]) == (name, way, dim)]
                if curve:
                    axes.plot(
                        [p["batch"] for p in curve],
                        [p[what] / MIB for p in curve],
                        style,
                        marker="o",
                        markersize=3,
                        color=f"C{number}",
                        label=name if way != "whole" else f"{name}, whole",
                    )
        scale_axes(axes, f"{title}, D = {dim}")
    panels[0].set_ylabel("MiB")
    panels[1].legend(fontsize=7, frameon=False)
    return figure


def table(measured: Mapping[str, Any]) -> str:
    """Format the report as a Markdown table: MiB saved / peak, a row a loss and width."""
    points = measured["summary"]["points"]
    batches = sorted({point["batch"] for point in points})
    rows = [
        "| loss | D | " + " | ".join(f"B = {batch}" for batch in batches) + " |",
        "| --- | --- |" + " --- |" * len(batches),
    ]
    for key in dict.fromkeys((p["loss"], p["way"], p["dim"]) for p in points):
        point_of = {p["batch"]: p for p in points if (p["loss"], p["way"], p["dim"]) == key}
        cells = [_cell(point_of.get(batch)) for batch in batches]
        rows.append(f"| {key[0]}, {key[1]} | {key[2]} | {' | '.join(cells)} |")
    rows += [f"\n{of}: {value:.1f} MiB saved." for of, value in measured["checked"].items()]
    return "\n".join(rows)


def _cell(point: Mapping[str, Any] | None) -> str:
    if point is None:
        return ""
    return " / ".join(f"{point[what] / MIB:.3g}" for what in ("saved", "peak"))
