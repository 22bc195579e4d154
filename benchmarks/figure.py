"""The paths as a figure: learning against keeping."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from benchmarks.path import PathPoint


def draw_paths(paths: dict[str, list[PathPoint]], file: Path) -> None:
    """Write an SVG: accuracy on the stream to the right, Δ_LP of the panel upwards.

    A line joins the strengths of one method; the point chosen on validation data is filled.
    The same points give the same bytes.
    """
    figure = Figure(figsize=(7, 5), layout="constrained")
    axes = figure.add_subplot()
    for number, (method, points) in enumerate(paths.items()):
        x = [100 * p.stream_accuracy for p in points]
        y = [100 * p.delta_lp for p in points]
        colour = matplotlib.colormaps["tab20"](number % 20)
        axes.plot(x, y, color=colour, linewidth=1.2, label=method)
        for p, a, b in zip(points, x, y, strict=True):
            fill = colour if p.chosen else "white"
            axes.plot(a, b, marker="o", color=colour, markerfacecolor=fill)
            if p.strength is not None:
                axes.annotate(
                    f"{p.strength:g}", (a, b), (4, 4), textcoords="offset points", fontsize=7
                )
    axes.set_xlabel("accuracy on the stream after its last data set (%)")
    axes.set_ylabel("Δ_LP of the panel (points)")
    axes.axhline(0, color="grey", linewidth=0.6)
    axes.legend(fontsize=8)
    file.parent.mkdir(parents=True, exist_ok=True)
    staged = file.with_suffix(".tmp")
    with matplotlib.rc_context({"svg.hashsalt": "paths"}), staged.open("wb") as sink:
        figure.savefig(sink, format="svg", metadata={"Date": None})
        sink.flush()
        os.fsync(sink.fileno())
    os.replace(staged, file)
