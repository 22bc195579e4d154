"""Titles of measures of drift on the page, for the measures that the board knows.

A record may hold other measures too: the page shows each under its key.
"""

from __future__ import annotations

from typing import NamedTuple


class MeasureText(NamedTuple):
    """A measure of drift on the page.

    Attributes:
        title: title of the column.
        unmoved: value of the measure where no feature moved.
    """

    title: str
    unmoved: str


MEASURE_TEXTS: dict[str, MeasureText] = {
    "l2": MeasureText("L2", "0"),
    "cka": MeasureText("CKA", "1"),
    "neighbors": MeasureText("neighbours kept", "1"),
    "otdd-kmeans": MeasureText("OTDD", "0"),
    "otdd": MeasureText("OTDD of class labels", "0"),  # in records from before k-means
}
"""Known measures by their key in records, in the order of the page."""


def measure_texts() -> dict[str, dict[str, str]]:
    """The texts as JSON's types, in the order of the page."""
    return {key: text._asdict() for key, text in MEASURE_TEXTS.items()}
