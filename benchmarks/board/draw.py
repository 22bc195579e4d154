"""Drawings of the page, as SVG in the colours of the page."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup

from benchmarks.board.columns import COLUMN, COLUMNS, LEARNING
from benchmarks.board.labels import Label, Point, placed_labels
from benchmarks.board.looks import class_of
from benchmarks.board.model import Comparison, Entry
from benchmarks.board.words import entry_name, number, with_spread

_WIDTH, _HEIGHT = 640, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 18, 14, 50


def ticks(low: float, high: float, most: int = 9) -> list[float]:
    """Return round numbers between ``low`` and ``high``, about ``most`` at most."""
    if not high > low:
        return [low]
    raw = (high - low) / most
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(size * k for k in (1, 2, 5, 10) if size * k >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(k * step, 10) for k in range(first, last + 1)]


def strip(values: Sequence[float], low: float, high: float, about: str) -> Markup:
    """Draw a dot for each seed on a line.

    Args:
        values: a score, by seed.
        low: start of the line, the same in the whole column.
        high: end of the line.
        about: text of the title and the label.
    """
    wide = 84
    span = (high - low) or 1.0
    dots = Markup("").join(
        Markup('<circle cx="{}" cy="6" r="2.6"/>').format(
            f"{4 + (wide - 8) * (value - low) / span:.1f}"
        )
        for value in values
    )
    return Markup(
        '<svg class="strip" viewBox="0 0 {w} 12" width="{w}" height="12" role="img" '
        'aria-label="{about}"><title>{about}</title><line x1="4" x2="{end}" y1="6" y2="6"/>{dots}'
        "</svg>"
    ).format(w=wide, end=wide - 4, about=about, dots=dots)


class _Axes:
    """Places of data in the drawing, with a margin around all data."""

    def __init__(self, xs: Sequence[float], ys: Sequence[float]) -> None:
        self.x, self.y = _padded(xs), _padded(ys)

    def at(self, x: float, y: float) -> tuple[float, float]:
        across = (x - self.x[0]) / (self.x[1] - self.x[0])
        up = (y - self.y[0]) / (self.y[1] - self.y[0])
        return (
            round(_LEFT + across * (_WIDTH - _LEFT - _RIGHT), 1),
            round(_HEIGHT - _BOTTOM - up * (_HEIGHT - _TOP - _BOTTOM), 1),
        )


def _padded(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    pad = 0.09 * (high - low) or 0.01
    return low - pad, high + pad


def drawn(comparison: Comparison) -> list[Point]:
    """Return the entries of the plot, with their values of learning and keeping."""
    points = []
    for entry in comparison.entries:
        x, y = entry.cells[LEARNING], entry.cells[comparison.keeping]
        if x is not None and y is not None:
            points.append((entry, x.mean, y.mean))
    return points


def joined_points(points: Sequence[Point]) -> list[list[Point]]:
    """Return the points that a line joins: those of one path, where there are two or more."""
    paths: dict[tuple[str, ...], list[Point]] = {}
    for point in points:
        paths.setdefault(point[0].path, []).append(point)
    return [path for path in paths.values() if len(path) > 1]


def scatter(comparison: Comparison) -> Markup:
    """Draw learning to the right and keeping upwards; a line joins the strengths of a method."""
    points = drawn(comparison)
    if not points:
        return Markup("")
    axes = _Axes([x for _, x, _ in points], [y for _, _, y in points])
    parts = [_grid(axes, comparison)]
    front = sorted((x, y) for e, x, y in points if e.front)
    if len(front) > 1:
        path = " ".join("{},{}".format(*axes.at(*point)) for point in front)
        parts.append(Markup('<polyline class="front" points="{}"/>').format(path))
    names = _names(axes, points)
    methods = list(dict.fromkeys(e.row.method for e, _, _ in points))
    for method in methods:
        path_points = [(e, x, y) for e, x, y in points if e.row.method == method]
        parts.append(_path(axes, comparison, method, path_points, names))
    keeping = COLUMN[comparison.keeping].title
    about = f"Learning (Last) against keeping ({keeping}); values are in the table below."
    return Markup(
        '<svg class="plot" viewBox="0 0 {w} {h}" role="group" aria-label="{about}">{parts}</svg>'
    ).format(w=_WIDTH, h=_HEIGHT, about=about, parts=Markup("").join(parts))


def _grid(axes: _Axes, comparison: Comparison) -> Markup:
    parts = []
    bottom, left = _HEIGHT - _BOTTOM, _LEFT
    for value in ticks(*axes.x):
        x, _ = axes.at(value, axes.y[0])
        parts.append(
            Markup(
                '<line class="grid" x1="{x}" x2="{x}" y1="{a}" y2="{b}"/>'
                '<text class="tick" x="{x}" y="{t}" text-anchor="middle">{v}</text>'
            ).format(x=x, a=_TOP, b=bottom, t=bottom + 18, v=f"{100 * value:.4g}")
        )
    for value in ticks(*axes.y):
        _, y = axes.at(axes.x[0], value)
        zero = "grid zero" if abs(value) < 1e-12 else "grid"
        parts.append(
            Markup(
                '<line class="{k}" x1="{a}" x2="{b}" y1="{y}" y2="{y}"/>'
                '<text class="tick" x="{t}" y="{z}" text-anchor="end">{v}</text>'
            ).format(
                k=zero,
                a=left,
                b=_WIDTH - _RIGHT,
                y=y,
                t=left - 8,
                z=y + 4,
                v=f"{100 * value:.4g}".replace("-", "\N{MINUS SIGN}"),
            )
        )
    column = COLUMN[comparison.keeping]
    parts.append(
        Markup(
            '<text class="axis" x="{x}" y="{y}" text-anchor="middle">'
            "learns more →  Last: accuracy at the end (%)</text>"
        ).format(x=(_LEFT + _WIDTH - _RIGHT) / 2, y=_HEIGHT - 10)
    )
    parts.append(
        Markup(
            '<text class="axis" transform="translate(16 {y}) rotate(-90)" text-anchor="middle">'
            "keeps more →  {name}: {short} (points)</text>"
        ).format(
            y=(_TOP + _HEIGHT - _BOTTOM) / 2,
            name=column.title,
            short=column.short.partition(",")[0],
        )
    )
    return Markup("").join(parts)


def _names(axes: _Axes, points: list[Point]) -> dict[str, Markup]:
    """Return the points' names as text, by setting."""
    at = {e.row.setting: axes.at(x, y) for e, x, y in points}
    frame = (_LEFT, 2.0, _WIDTH - 2.0, _HEIGHT - _BOTTOM + 2.0)
    names = {}
    for setting, label in placed_labels(points, at, frame).items():
        names[setting] = _leader(label) + Markup(
            '<text class="name{}" x="{}" y="{}" text-anchor="{}">{}</text>'
        ).format(
            "" if label.major else " minor",
            round(label.x, 1),
            round(label.y, 1),
            label.anchor,
            label.text,
        )
    return names


def _leader(label: Label) -> Markup:
    """Return a line from a point to a name that stands apart from it."""
    if label.leader is None:
        return Markup("")
    return Markup('<line class="leader" x1="{}" y1="{}" x2="{}" y2="{}"/>').format(*label.leader)


def _path(
    axes: _Axes,
    comparison: Comparison,
    method: str,
    points: list[Point],
    names: dict[str, Markup],
) -> Markup:
    parts = []
    for joined in joined_points(points):
        line = " ".join("{},{}".format(*axes.at(x, y)) for _, x, y in joined)
        parts.append(Markup('<polyline class="path" points="{}"/>').format(line))
    for entry, x, y in points:
        parts.append(_point(axes, comparison, entry, x, y))
        parts.append(names.get(entry.row.setting, Markup("")))
    return Markup('<g class="method {c}" data-method="{m}">{parts}</g>').format(
        c=class_of(method), m=method, parts=Markup("").join(parts)
    )


def _point(axes: _Axes, comparison: Comparison, entry: Entry, x: float, y: float) -> Markup:
    a, b = axes.at(x, y)
    across, up = entry.cells[LEARNING], entry.cells[comparison.keeping]
    column = COLUMN[comparison.keeping]
    about = (
        f"{entry_name(entry)}: Last {with_spread(across, 'percent')} %, {column.title} "
        f"{with_spread(up, 'points')} points, {len(entry.row.finished)} seeds"
        + (", chosen on validation data" if entry.row.chosen else "")
        + ("" if entry.ranked else "; not ranked")
    )
    parts = []
    chosen = entry.row.chosen and entry.ranked
    if chosen:
        for cell, flat in ((across, True), (up, False)):
            if cell is None or cell.half is None:
                continue
            ends = [cell.mean - cell.half, cell.mean + cell.half]
            (p, q), (r, s) = (axes.at(e, y) if flat else axes.at(x, e) for e in ends)
            p, r = (min(max(v, _LEFT), _WIDTH - _RIGHT) for v in (p, r))
            q, s = (min(max(v, _TOP), _HEIGHT - _BOTTOM) for v in (q, s))
            parts.append(
                Markup('<line class="error" x1="{}" y1="{}" x2="{}" y2="{}"/>').format(p, q, r, s)
            )
    kind, radius = ("chosen", 6) if chosen else ("open" if entry.ranked else "open aside", 4)
    parts.append(Markup('<circle class="{}" cx="{}" cy="{}" r="{}"/>').format(kind, a, b, radius))
    return Markup('<a href="#row-{id}" class="point"><title>{about}</title>{parts}</a>').format(
        id=entry.row.setting[:12], about=about, parts=Markup("").join(parts)
    )


def strips(comparison: Comparison) -> dict[tuple[str, str], Markup]:
    """Draw the dots of every cell, by setting and column; a column has one scale."""
    drawings: dict[tuple[str, str], Markup] = {}
    for column in COLUMNS:
        cells = [(e, e.cells[column.key]) for e in comparison.entries]
        values = [v for _, cell in cells if cell for v in cell.values.values()]
        if not values:
            continue
        low, high = min(values), max(values)
        for entry, cell in cells:
            if cell is not None:
                about = ", ".join(
                    f"seed {s}: {number(v, column.unit)}" for s, v in cell.values.items()
                )
                drawings[entry.row.setting, column.key] = strip(
                    list(cell.values.values()), low, high, about
                )
    return drawings
