"""Figures of the board for papers, as PNG and SVG."""

from __future__ import annotations

import io
import re
from typing import Any

import matplotlib.style
from matplotlib.figure import Figure

from benchmarks.board.columns import COLUMN, COLUMNS, LEARNING
from benchmarks.board.draw import drawn, joined_points
from benchmarks.board.labels import at_one_place
from benchmarks.board.looks import look_of
from benchmarks.board.model import Board, Comparison
from benchmarks.board.words import entry_name


def figures(board: Board) -> dict[str, bytes]:
    """Return files by name; the same board and matplotlib give the same bytes."""
    salt = {"svg.hashsalt": "board", "svg.fonttype": "path"}
    with matplotlib.style.context(["default", salt]):  # independent of matplotlibrc
        return _figures(board)


def _figures(board: Board) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    for comparison in board.comparisons:
        word = re.sub(r"[^a-z0-9]+", "-", f"{comparison.stream} {comparison.backbone}".lower())
        name = f"figure-{comparison.number}-{word.strip('-')[:60]}"
        for kind, draw in (("paths", paths_figure), ("differences", differences_figure)):
            figure = draw(comparison)
            if figure is None:
                continue
            for suffix, metadata in (("svg", {"Date": None}), ("png", {"Software": None})):
                sink = io.BytesIO()
                figure.savefig(sink, format=suffix, metadata=metadata, dpi=160)
                files[f"{name}-{kind}.{suffix}"] = sink.getvalue()
    return files


def _text(words: str) -> str:
    """Escape text that matplotlib would read as mathematics."""
    return words.replace("$", r"\$")


def paths_figure(comparison: Comparison) -> Figure | None:
    """Plot learning against keeping, a line a method, and the Pareto front.

    The figure is None if no row has both values.
    """
    points = drawn(comparison)
    if not points:
        return None
    figure = Figure(figsize=(7, 4.6), layout="constrained")
    axes: Any = figure.add_subplot()
    front = sorted((100 * x, 100 * y) for e, x, y in points if e.front)
    if len(front) > 1:
        axes.plot(
            *zip(*front, strict=True),
            color="#888",
            linestyle="--",
            linewidth=1,
            label="not beaten in both",
            zorder=1,
        )
    for method in dict.fromkeys(e.row.method for e, _, _ in points):
        colour, marker = look_of(method)
        path = [(e, 100 * x, 100 * y) for e, x, y in points if e.row.method == method]
        for joined in joined_points(path):
            axes.plot(
                [x for _, x, _ in joined],
                [y for _, _, y in joined],
                color=colour,
                linewidth=1,
                alpha=0.6,
                zorder=2,
            )
        named = False
        for entry, x, y in path:
            across, up = entry.cells[LEARNING], entry.cells[comparison.keeping]
            chosen = entry.row.chosen and entry.ranked
            halves = [
                None if c is None or c.half is None or not chosen else 100 * c.half
                for c in (across, up)
            ]
            axes.errorbar(
                x,
                y,
                xerr=halves[0],
                yerr=halves[1],
                color=colour,
                marker=marker,
                markersize=6,
                markerfacecolor=colour if chosen else "white",
                elinewidth=1,
                linestyle="none",
                alpha=1 if entry.ranked else 0.4,
                label=None if named else _text(method),
                zorder=3,
            )
            named = True
    for same in at_one_place(points):
        entry, x, y = same[0]
        name = ", ".join(e.row.label for e, _, _ in same)
        if len(same) == 1:
            name = entry.row.strength_text
        axes.annotate(
            _text(name),
            (100 * x, 100 * y),
            (5, 4),
            fontsize=7,
            color=look_of(entry.row.method).colour if len(same) == 1 else "#333",
            textcoords="offset points",
        )
    axes.set_xlabel("learning: accuracy on the stream at its end (%)")
    axes.set_ylabel(f"keeping: {COLUMN[comparison.keeping].title} (points)")
    axes.set_title(_text(comparison.title), fontsize=10, wrap=True)
    axes.axhline(0, color="#bbb", linewidth=0.7, zorder=0)
    axes.legend(fontsize=8, frameon=False)
    return figure


def differences_figure(comparison: Comparison) -> Figure | None:
    """Plot paired differences of chosen settings to plain fine-tuning, with intervals.

    The figure is None if no chosen setting has a difference.
    """
    entries = [e for e in comparison.entries if e.row.chosen and any(e.differences.values())]
    compared = [c.key for c in COLUMNS if c.compared]
    keys = [k for k in compared if any(e.differences[k] for e in entries)]
    if not entries:
        return None
    figure = Figure(
        figsize=(2.3 * len(keys) + 1.4, 0.36 * len(entries) + 1.3), layout="constrained"
    )
    for number, key in enumerate(keys, 1):
        axes: Any = figure.add_subplot(1, len(keys), number)
        for place, entry in enumerate(entries):
            difference = entry.differences[key]
            if difference is None:
                continue
            colour, marker = look_of(entry.row.method)
            half = None if difference.half is None else 100 * difference.half
            axes.errorbar(
                100 * difference.mean,
                place,
                xerr=half,
                color=colour,
                marker=marker,
                markersize=5,
                capsize=2,
            )
        axes.axvline(0, color="#888", linewidth=0.8)
        axes.set_title(COLUMN[key].title, fontsize=9)
        axes.set_ylim(len(entries) - 0.5, -0.5)
        axes.set_yticks(range(len(entries)))
        axes.set_yticklabels(
            [_text(entry_name(e)) for e in entries] if number == 1 else [], fontsize=8
        )
        axes.tick_params(axis="x", labelsize=7)
        if number == 1:
            figure.supxlabel("difference to plain fine-tuning, points, 95 % interval", fontsize=8)
    return figure
