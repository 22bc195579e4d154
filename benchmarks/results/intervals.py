"""Confidence intervals over a few seeds, and the Pareto front."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from scipy.special import stdtr, stdtrit

_ROUNDING = 1e-9
"""Relative to the largest value; differences below it are rounding of the values."""


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % interval.

    Attributes:
        mean: mean of the values.
        half: half of the width; None for a single value, and for differences of :func:`paired`
            that are all equal.
        values: values by seed.
    """

    mean: float
    half: float | None
    values: dict[int, float]

    @property
    def excludes_zero(self) -> bool:
        """True if 0 lies outside of the interval."""
        return self.half is not None and abs(self.mean) > self.half


def t_quantile(count: int) -> float:
    """Return the 97.5 % quantile of Student's t for the mean of ``count`` values.

    Example:
        >>> round(t_quantile(3), 3)
        4.303

    Raises:
        ValueError: for fewer than two values.
    """
    if count < 2:
        raise ValueError(f"count={count}: an interval needs two values")
    free = count - 1
    first = float(stdtrit(free, 0.975))
    # SciPy 1.10 is right to ten digits; one step of Newton's method makes all versions equal
    scale = math.lgamma((free + 1) / 2) - math.lgamma(free / 2) - math.log(free * math.pi) / 2
    density = math.exp(scale - (free + 1) / 2 * math.log1p(first**2 / free))
    return round(first - (float(stdtr(free, first)) - 0.975) / density, 10)


def interval(values: Mapping[int, float]) -> Interval | None:
    """Return Student's t-interval of values by seed, with ddof = 1; None for no values.

    Raises:
        ValueError: for a value that is not finite.
    """
    numbers = [float(values[seed]) for seed in sorted(values)]
    if not all(map(math.isfinite, numbers)):
        raise ValueError(f"values={numbers} must be finite")
    if not numbers:
        return None
    half, mean = None, statistics.fmean(numbers)
    if len(numbers) > 1:
        # the last digit of statistics.stdev depends on the version of Python
        spread = math.fsum((value - mean) ** 2 for value in numbers) / (len(numbers) - 1)
        half = t_quantile(len(numbers)) * math.sqrt(spread / len(numbers))
    return Interval(mean, half, {s: float(values[s]) for s in sorted(values)})


def paired(values: Mapping[int, float], base: Mapping[int, float]) -> Interval | None:
    """Return the interval of ``values`` minus ``base`` over shared seeds; None without any.

    Equal differences other than 0 show no spread, from which an interval could follow: their
    ``half`` is None.
    """
    found = interval({seed: value - base[seed] for seed, value in values.items() if seed in base})
    if found is None or found.half is None:
        return found
    bound = rounding_of(values, base)
    if max(found.values.values()) - min(found.values.values()) > bound:
        return found
    if abs(found.mean) > bound:
        return replace(found, half=None)
    return replace(found, mean=0.0, half=0.0)


def rounding_of(values: Mapping[int, float], base: Mapping[int, float]) -> float:
    """Return the size below which a difference of shared seeds is rounding of the values."""
    shared = [seed for seed in values if seed in base]
    return _ROUNDING * max((abs(each[k]) for each in (values, base) for k in shared), default=0.0)


def pareto(points: Sequence[tuple[float, float]]) -> list[int]:
    """Return the indices of points that no other point beats in both coordinates.

    The indices are in the order of the first coordinate. Equal points all stay.
    """
    order = sorted(range(len(points)), key=lambda k: points[k])
    return [
        k
        for k in order
        if not any(
            a >= points[k][0] and b >= points[k][1] and (a, b) != points[k] for a, b in points
        )
    ]
