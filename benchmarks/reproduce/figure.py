"""Draws the features of a data set under two models, side by side."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import matplotlib.style
import numpy as np
from matplotlib.colors import CSS4_COLORS
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from benchmarks.reproduce.projection import Neighbors, Plane, Projection

WORST = 5
_MOST_IN_LEGEND = 12
# nine of Paul Tol's colours, distinct for every colour vision, and three more
_COLOURS = (
    "#4477aa",
    "#ee6677",
    "#228833",
    "#ccbb44",
    "#66ccee",
    "#aa3377",
    "#ee7733",
    "#332288",
    "#44bb99",
    "#882255",
    "#999933",
    "#bb9988",
)
_MARKERS = "osD^vPX"
_INK, _GREY = "#222222", "#777777"
_HEIGHT = 9.4  # inches; empty space at the bottom is cropped


@dataclass(frozen=True)
class Words:
    """Text of the figure.

    Attributes:
        title: title of the figure.
        panels: titles of the first and the second model's panels.
        caption: text below the panels.
    """

    title: str
    panels: tuple[str, str]
    caption: str


def draw(
    places: Projection,
    neighbors: Neighbors,
    labels: Sequence[int],
    classes: Sequence[str],
    words: Words,
) -> Figure:
    """Draw the figure; the user's settings of matplotlib are not used.

    Args:
        places: places of N images under both models.
        neighbors: lost neighbours of the images.
        labels: [N] labels of the images.
        classes: class names by label.
        words: text of the figure.
    """
    with matplotlib.style.context("default"):
        figure = Figure(figsize=(13, _HEIGHT), facecolor="white")
        figure.subplots_adjust(left=0.055, right=0.985, top=0.86, bottom=0.3, wspace=0.09)
        figure.suptitle(_plain(words.title), fontsize=17, fontweight="bold", color=_INK, y=0.975)
        looks, legend = _looks(labels, classes)
        panels = figure.subplots(1, 2, sharex=True, sharey=True)
        planes, lines = (places.before, places.after), ("dotted", "solid")
        for axes, plane, line, title in zip(panels, planes, lines, words.panels, strict=True):
            _panel(axes, plane, looks, neighbors, line)
            axes.set_title(_plain(title), fontsize=13.5, color=_INK, linespacing=1.35, pad=9)
            axes.set_xlabel(places.axes[0], fontsize=11)
        panels[0].set_ylabel(places.axes[1], fontsize=11)
        _limit(panels[0], np.concatenate((places.before, places.after)))
        _explain(figure, legend, words.caption)
    return figure


def saved(figure: Figure) -> dict[str, bytes]:
    """Encode the figure as PNG and SVG, by suffix, without dates and software versions."""
    files = {}
    with matplotlib.style.context(["default", {"svg.hashsalt": "avalanche-proxyfda"}]):
        for kind, metadata in (("png", {"Software": None}), ("svg", {"Date": None})):
            buffer = io.BytesIO()
            figure.savefig(
                buffer, format=kind, dpi=130, metadata=metadata, bbox_inches="tight", pad_inches=0.2
            )
            files[kind] = buffer.getvalue()
    return files


def _plain(text: str) -> str:
    """Escape text so that matplotlib does not read it as mathematics."""
    return text.replace("$", r"\$")


Look = tuple[Any, str, NDArray[np.intp]]
"""Colour, marker, and indices of the images that have them."""


def _looks(labels: Sequence[int], classes: Sequence[str]) -> tuple[list[Look], list[Line2D]]:
    """Looks of the classes, and lines of the legend; a legend of many classes has no line."""
    numbers, present = np.asarray(labels), sorted(set(labels))
    few = len(present) <= _MOST_IN_LEGEND
    named = [classes[label].split()[-1] for label in present]
    if all(word in CSS4_COLORS for word in named):  # classes named by colours have these colours
        colours: list[Any] = named
    elif few:
        colours = list(_COLOURS[: len(present)])
    else:
        colours = list(matplotlib.colormaps["turbo"](np.linspace(0.03, 0.97, len(present))))
    looks: list[Look] = []
    legend = []
    for k, (label, colour) in enumerate(zip(present, colours, strict=True)):
        marker = _MARKERS[k % len(_MARKERS)]
        looks.append((colour, marker, np.flatnonzero(numbers == label)))
        style: Any = {"mfc": colour, "mec": _INK, "mew": 0.4, "ms": 7, "marker": marker}
        name = _plain(textwrap.shorten(classes[label], 24))
        legend.append(Line2D([], [], ls="", label=name, **style))
    return looks, legend if few else []


def _panel(axes: Any, plane: Plane, looks: Sequence[Look], neighbors: Neighbors, line: str) -> None:
    worst = neighbors.worst(WORST)
    for image in worst:
        for other in neighbors.lost[image]:
            axes.plot(*plane[[image, other]].T, color=_GREY, lw=0.9, ls=line, zorder=1)
    for colour, marker, images in looks:
        axes.scatter(
            *plane[images].T,
            s=30,
            color=[colour],
            marker=marker,
            edgecolors=_INK,
            linewidths=0.3,
            alpha=0.75,
            zorder=2,
        )
    axes.scatter(
        *plane[neighbors.torn].T, s=95, facecolors="none", edgecolors=_INK, linewidths=1, zorder=3
    )
    for number, image in enumerate(worst, start=1):
        axes.annotate(
            str(number),
            plane[image],
            xytext=(11, 11),
            textcoords="offset points",
            fontsize=10.5,
            fontweight="bold",
            color=_INK,
            ha="center",
            va="center",
            zorder=5,
            bbox={"boxstyle": "circle,pad=0.12", "fc": "#ffe680", "ec": _INK, "lw": 0.8},
        )
    axes.grid(color="#e6e6e6", lw=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=10)
    axes.spines[["top", "right"]].set_visible(False)


def _explain(figure: Figure, legend: Sequence[Line2D], caption: str) -> None:
    """Add the legend of classes and marks, and the caption below it."""
    longest = max((len(str(line.get_label())) for line in legend), default=0)
    columns = min(6, int(12.4 / (0.6 + 0.09 * longest)))  # of 12.4 inches
    handles = [
        *legend,
        Line2D(
            [],
            [],
            ls="",
            marker="o",
            ms=11,
            mfc="none",
            mec=_INK,
            mew=1.2,
            label="lost more than half",
        ),
        Line2D([], [], color=_GREY, lw=1.2, label="to a lost neighbour"),
    ]
    top = 0.225
    figure.legend(
        handles=handles,
        loc="upper center",
        bbox_to_anchor=(0.52, top),
        ncols=columns,
        fontsize=11,
        frameon=False,
        columnspacing=1.8,
        handletextpad=0.5,
    )
    rows = -(-len(handles) // columns)
    figure.text(
        0.055,
        top - (0.24 * rows + 0.25) / _HEIGHT,
        _plain(textwrap.fill(caption, 150)),
        fontsize=11,
        color=_INK,
        va="top",
        linespacing=1.4,
    )


def _limit(axes: Any, points: Plane) -> None:
    """Show all points, with one scale for both axes; the other panel shares the limits."""
    low, high = points.min(axis=0), points.max(axis=0)
    box = axes.get_window_extent()
    size = np.array([box.width, box.height])
    half = size * max(float(((high - low) / size).max()) * 0.54, 1e-6)
    middle = (low + high) / 2
    axes.set_xlim(middle[0] - half[0], middle[0] + half[0])
    axes.set_ylim(middle[1] - half[1], middle[1] + half[1])
