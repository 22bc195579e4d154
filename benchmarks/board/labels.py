"""Names of the plot's points: each method has one, beside a point of its own."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.board.model import Entry

Point = tuple[Entry, float, float]
"""A row of the plot, with its values of learning and keeping."""
Box = tuple[float, float, float, float]
"""Left, top, right and bottom, in the units of a drawing."""
_NEAR = (
    (8, -7, "start"),
    (-8, -7, "end"),
    (9, 15, "start"),
    (-9, 15, "end"),
    (0, -11, "middle"),
    (0, 21, "middle"),
)
_RINGS = (30, 46, 64, 84)
_DIRECTIONS = 12


@dataclass(frozen=True)
class Label:
    """A name in the drawing.

    Attributes:
        text: the name.
        major: True for the name of a method, False for a strength alone.
        x: place of the text's anchor, to the right.
        y: place of the text's base line, downwards.
        anchor: SVG's text-anchor.
        leader: line from the point to a text that stands apart from it; else None.
    """

    text: str
    major: bool
    x: float
    y: float
    anchor: str
    leader: Box | None = None


def at_one_place(points: Sequence[Point]) -> list[list[Point]]:
    """Return the points in groups with the same values."""
    groups: dict[tuple[float, float], list[Point]] = {}
    for point in points:
        groups.setdefault((round(point[1], 9), round(point[2], 9)), []).append(point)
    return list(groups.values())


def majors(points: Sequence[Point]) -> set[str]:
    """Return the settings whose names hold their method; every method has one at least.

    A chosen setting and a method without a strength are named in full. Of a method without such
    a setting, the first is.
    """
    full = {e.row.setting for e, _, _ in points if e.row.chosen or e.row.strength is None}
    methods = {e.row.method for e, _, _ in points if e.row.setting in full}
    for entry, _, _ in points:
        if entry.row.method not in methods:
            methods.add(entry.row.method)
            full.add(entry.row.setting)
    return full


def placed_labels(
    points: Sequence[Point], at: Mapping[str, tuple[float, float]], frame: Box
) -> dict[str, Label]:
    """Return a label by setting, placed where it overlaps no point and no other label.

    A full name that fits nowhere near its point stands apart, with a line to the point. A
    strength that fits nowhere near its point has no label.

    Args:
        points: points of the plot.
        at: place of each point by setting, in the units of the drawing.
        frame: part of the drawing in which labels may stand.
    """
    full = majors(points)
    taken: list[Box] = [(a - 5, b - 5, a + 5, b + 5) for a, b in at.values()]
    labels: dict[str, Label] = {}
    for entry, _, _ in sorted(points, key=lambda p: p[0].row.setting not in full):
        row = entry.row
        major = row.setting in full
        text = row.label if major else row.strength_text
        choices = [
            (label, box)
            for label in _choices(text, major, *at[row.setting])
            if _inside(box := _box(label), frame)
        ]
        free = [c for c in choices if not any(_overlap(c[1], other) for other in taken)]
        if not free and major and choices:  # as little on other things as can be
            free = [min(choices, key=lambda c: sum(_overlap(c[1], other) for other in taken))]
        if free:
            labels[row.setting] = free[0][0]
            taken.append(free[0][1])
    return labels


def _choices(text: str, major: bool, a: float, b: float) -> Iterator[Label]:
    """Yield labels of a point at (a, b), the nearest first."""
    for dx, dy, anchor in _NEAR:
        yield Label(text, major, a + dx, b + dy, anchor)
    if not major:
        return
    for radius in _RINGS:
        for number in range(_DIRECTIONS):
            angle = 2 * math.pi * number / _DIRECTIONS
            x, y = a + radius * math.cos(angle), b + radius * math.sin(angle)
            anchor = "start" if x > a + 4 else "end" if x < a - 4 else "middle"
            line = (a, b, round(x, 1), round(y, 1))
            yield Label(text, major, x, y + 4, anchor, line)


def _box(label: Label) -> Box:
    size = 1.45 if label.major else 1.0  # letters of full names are larger on a phone
    wide = 6.6 * len(label.text) * size
    left = label.x - {"start": 0, "middle": wide / 2, "end": wide}[label.anchor]
    return left, label.y - 10 * size, left + wide, label.y + 2


def _inside(box: Box, frame: Box) -> bool:
    return box[0] > frame[0] and box[1] > frame[1] and box[2] < frame[2] and box[3] < frame[3]


def _overlap(one: Box, two: Box) -> bool:
    return one[0] < two[2] and two[0] < one[2] and one[1] < two[3] and two[1] < one[3]
