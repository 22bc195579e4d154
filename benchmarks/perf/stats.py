"""Medians, quartiles, and ratios of steps that take turns."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import TypedDict


class Spread(TypedDict):
    """A median with the lower and the upper quartile."""

    median: float
    low: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    """Median and quartiles of values.

    Raises:
        ValueError: if there is no value.
    """
    if not values:
        raise ValueError("values is empty: there is nothing to take a median of")
    if len(values) == 1:
        return {"median": values[0], "low": values[0], "high": values[0]}
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return {"median": middle, "low": low, "high": high}


def ratios(values: Sequence[float], plain: Sequence[float]) -> list[float]:
    """Divide each value by the plain value of the same round.

    A slow phase of the machine slows both values, so their ratio hardly changes.

    Raises:
        ValueError: if the numbers of values differ.
    """
    if len(values) != len(plain):
        raise ValueError(
            f"{len(values)} values, but {len(plain)} plain ones: give one a round of each"
        )
    return [value / other for value, other in zip(values, plain, strict=True)]


def format_spread(values: Spread, digits: int = 3) -> str:
    """Format a spread like ``1.012 (1.004-1.021)``."""
    median, low, high = (f"{values[key]:.{digits}f}" for key in ("median", "low", "high"))
    return f"{median} ({low}-{high})"
