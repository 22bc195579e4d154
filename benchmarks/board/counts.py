"""Numbers of test images of a comparison: how much one image is."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.board.model import Comparison


def span(counts: Sequence[int]) -> str:
    """Return ``400``, or ``35 to 400``."""
    low, high = min(counts), max(counts)
    return str(low) if low == high else f"{low} to {high}"


def one_image(counts: Sequence[int]) -> str:
    """Return how much an image of the smallest set moves the accuracy on the set, in points.

    >>> one_image([35, 400]), one_image([400])
    ('2.9', '0.25')
    """
    return f"{100 / min(counts):.2g}"


def image_counts(comparison: Comparison) -> str:
    """Return the numbers of test images in words; nothing without a finished run."""
    if not comparison.test:
        return ""
    parts = [f"{span(comparison.test)} a data set of the stream"]
    if comparison.panel_test:
        parts.append(f"{span(comparison.panel_test)} a data set of the panel")
    points = one_image((*comparison.test, *comparison.panel_test))
    several = len({*comparison.test, *comparison.panel_test}) > 1
    return f"{', '.join(parts)}; one image is {'up to ' if several else ''}{points} points"
