"""What the losses keep for backward, and the most that they hold."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import torch
from matplotlib.figure import Figure
from tqdm import tqdm

from benchmarks.perf.bounds import SAVED
from benchmarks.perf.losses import BATCHES, CHUNKED, DIMS, LOSSES, Case, Size, kept_whole, too_long
from benchmarks.perf.report import machine, report
from benchmarks.perf.saved import peak_bytes, saved_bytes

MIB = 2**20
BOUNDS = SAVED
_BOUNDED = ("proxy-fda", Size(1024, 768))


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of ``perf memory``."""
    parser.add_argument("--batches", nargs="+", type=int, default=None, metavar="B")
    parser.add_argument("--dims", nargs="+", type=int, default=None, metavar="D")
    parser.add_argument("--losses", nargs="+", choices=tuple(LOSSES), default=tuple(LOSSES))
    parser.add_argument(
        "--budget", type=float, default=60.0,
        help="leave a size out when it may take more seconds than this",
    )  # fmt: skip


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Count bytes on torch's meta device: exact, the same on every machine.

    Attention keeps its matrix there, which some devices' kernels do not. With a GPU, the most
    that it holds in a real step is measured as well.
    """
    batches = args.batches or ((16, 64) if args.quick else BATCHES)
    dims = args.dims or ((512,) if args.quick else DIMS)
    cuda, about = torch.cuda.is_available(), machine("cuda" if torch.cuda.is_available() else "cpu")
    points: list[dict[str, Any]] = []
    left_out: list[dict[str, Any]] = []
    plans = [(name, way, dim) for dim in dims for name in args.losses
             for way in (("chunked", "whole") if name in CHUNKED else ("as it is",))]  # fmt: skip
    with tqdm(total=len(plans) * len(batches), unit="size", mininterval=2) as bar:
        for name, way, dim in plans:
            last, seconds = None, None
            for batch in sorted(batches):
                bar.set_description(f"{name}, {way}, B = {batch}, D = {dim}")
                size = Size(batch, dim)
                expected = too_long(seconds, size, last, args.budget)
                if expected is None:
                    started = time.process_time()
                    points.append(_point(name, way, size, cuda))
                    last, seconds = size, time.process_time() - started
                else:
                    left_out.append(_named(name, way, size) | {"expected_seconds": expected})
                bar.update()
    checked = {}
    if args.check:
        checked[SAVED[0].of] = _bounded(points)
    settings = {
        "batches": list(batches), "dims": list(dims), "losses": list(args.losses),
        "budget": args.budget, "quick": args.quick, "device": "cuda" if cuda else "meta",
    }  # fmt: skip
    summary = {"points": points, "left_out": left_out}
    return report("memory", settings, {"points": points}, summary, checked, about)


def _named(name: str, way: str, size: Size) -> dict[str, Any]:
    return {"loss": name, "way": way, "batch": size.batch, "dim": size.dim}


def _point(name: str, way: str, size: Size, cuda: bool) -> dict[str, Any]:
    with kept_whole() if way == "whole" else nullcontext():
        found = Case(name, size, "meta")
        saved = saved_bytes(found.compute, found.given)
        made = _named(name, way, size) | {"saved": saved, "peak": peak_bytes(found.compute)}
        if cuda:
            made["gpu_peak"] = _gpu_peak(name, size)
    return made


def _gpu_peak(name: str, size: Size) -> int | None:
    """Bytes that a real step on the GPU adds at most; None where they are more than it has."""
    found = Case(name, size, "cuda")
    try:
        found.step()  # kernels take a workspace at their first use
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        found.step()
        torch.cuda.synchronize()
    except torch.cuda.OutOfMemoryError:
        return None
    return torch.cuda.max_memory_allocated() - before


def _bounded(points: list[dict[str, Any]]) -> float:
    """MiB saved at the size that has a bound, measured if it is not among ``points``."""
    name, size = _BOUNDED
    wanted = _named(name, "chunked", size)
    for point in points:
        if {key: point[key] for key in wanted} == wanted:
            return float(point["saved"]) / MIB
    found = Case(name, size, "meta")
    return saved_bytes(found.compute, found.given) / MIB


def line(made: Mapping[str, Any]) -> str:
    """The summary, in one line: the largest batch of each loss."""
    largest: dict[str, Mapping[str, Any]] = {}
    for point in made["summary"]["points"]:
        key = f"{point['loss']}, {point['way']}"
        if key not in largest or (point["batch"], point["dim"]) >= (
            largest[key]["batch"], largest[key]["dim"],
        ):  # fmt: skip
            largest[key] = point
    parts = [
        f"{key} {p['saved'] / MIB:.1f} at B = {p['batch']}, D = {p['dim']}"
        for key, p in largest.items()
    ]
    bound = "".join(f"; {of}: {value:.1f}" for of, value in made["checked"].items())
    return f"MiB kept for backward: {'; '.join(parts)}{bound}"


def draw(made: Mapping[str, Any]) -> Figure:
    """Bytes kept and held, over B, at the width in the middle."""
    points = made["summary"]["points"]
    dims = sorted({point["dim"] for point in points})
    dim = dims[len(dims) // 2]
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    panels: Any = figure.subplots(1, 2, sharex=True, sharey=True)
    for axes, what, title in zip(
        panels, ("saved", "peak"), ("kept for backward", "held at most, in forward and backward"),
        strict=True,
    ):  # fmt: skip
        names = list(dict.fromkeys(point["loss"] for point in points))
        for number, name in enumerate(names):
            for way, style in (("chunked", "-"), ("whole", ":"), ("as it is", "-")):
                own = [p for p in points if (p["loss"], p["way"], p["dim"]) == (name, way, dim)]
                if own:
                    axes.plot(
                        [p["batch"] for p in own], [p[what] / MIB for p in own], style,
                        marker="o", markersize=3, color=f"C{number}",
                        label=name if way != "whole" else f"{name}, whole",
                    )  # fmt: skip
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_title(f"{title}, D = {dim}", fontsize=10)
        axes.set_xlabel("B")
    panels[0].set_ylabel("MiB")
    panels[1].legend(fontsize=7, frameon=False)
    return figure


def table(made: Mapping[str, Any]) -> str:
    """Markdown: MiB kept / held, a row for each loss and width."""
    points = made["summary"]["points"]
    batches = sorted({point["batch"] for point in points})
    rows = [
        "| loss | D | " + " | ".join(f"B = {batch}" for batch in batches) + " |",
        "| --- | --- |" + " --- |" * len(batches),
    ]
    for key in dict.fromkeys((p["loss"], p["way"], p["dim"]) for p in points):
        own = {p["batch"]: p for p in points if (p["loss"], p["way"], p["dim"]) == key}
        cells = [_cell(own.get(batch)) for batch in batches]
        rows.append(f"| {key[0]}, {key[1]} | {key[2]} | {' | '.join(cells)} |")
    rows += [f"\n{of}: {value:.1f} MiB kept." for of, value in made["checked"].items()]
    return "\n".join(rows)


def _cell(point: Mapping[str, Any] | None) -> str:
    if point is None:
        return ""
    return " / ".join(f"{point[what] / MIB:.3g}" for what in ("saved", "peak"))
