"""Medians, quartiles, and ratios of steps that took turns."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import TypedDict


class Spread(TypedDict):
    """A median and the quartiles around it."""

    median: float
    low: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    """Median and quartiles.

    Raises:
        ValueError: for no value.
    """
    if not values:
        raise ValueError("values is empty: there is nothing to take a median of")
    if len(values) == 1:
        return {"median": values[0], "low": values[0], "high": values[0]}
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return {"median": middle, "low": low, "high": high}


def ratios(values: Sequence[float], plain: Sequence[float]) -> list[float]:
    """Each value by the plain one of the same round.

    What slows the machine down for a while slows both, and goes out of the ratio.

    Raises:
        ValueError: when there are not as many of both.
    """
    if len(values) != len(plain):
        raise ValueError(f"{len(values)} values, but {len(plain)} plain ones: one a round each")
    return [value / other for value, other in zip(values, plain, strict=True)]


def told(found: Spread, digits: int = 3) -> str:
    """``1.012 (1.004-1.021)``."""
    return f"{found['median']:.{digits}f} ({found['low']:.{digits}f}-{found['high']:.{digits}f})"
