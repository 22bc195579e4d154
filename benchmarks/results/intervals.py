"""What a few seeds allow to say."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy.special import stdtrit


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % interval.

    Attributes:
        mean: of the values.
        half: half of the width; None for a single value, which says nothing about others.
        values: by seed.
    """

    mean: float
    half: float | None
    values: dict[int, float]

    @property
    def excludes_zero(self) -> bool:
        """Whether 0 lies outside."""
        return self.half is not None and abs(self.mean) > self.half


def t_quantile(count: int) -> float:
    """97.5 % quantile of Student's t for the mean of ``count`` values: 4.303 for three.

    Raises:
        ValueError: for fewer than two.
    """
    if count < 2:
        raise ValueError(f"count={count}: an interval needs two values")
    return round(float(stdtrit(count - 1, 0.975)), 10)  # versions of SciPy differ after that


def interval(values: Mapping[int, float]) -> Interval | None:
    """Student's t-interval of values by seed, with ddof = 1; None for no values.

    Raises:
        ValueError: for a value that is not finite.
    """
    found = [float(values[seed]) for seed in sorted(values)]
    if not all(map(math.isfinite, found)):
        raise ValueError(f"values={found} must be finite")
    if not found:
        return None
    half, mean = None, statistics.fmean(found)
    if len(found) > 1:
        # not statistics.stdev, whose last digit depends on the version of Python
        spread = math.fsum((value - mean) ** 2 for value in found) / (len(found) - 1)
        half = t_quantile(len(found)) * math.sqrt(spread / len(found))
    return Interval(mean, half, {s: float(values[s]) for s in sorted(values)})


def paired(values: Mapping[int, float], base: Mapping[int, float]) -> Interval | None:
    """The interval of ``values`` minus ``base`` on the seeds that both have; None without any."""
    return interval({seed: value - base[seed] for seed, value in values.items() if seed in base})


def pareto(points: Sequence[tuple[float, float]]) -> list[int]:
    """Which points no other beats in both coordinates, by the first one; equals all stay."""
    order = sorted(range(len(points)), key=lambda k: points[k])
    return [
        k
        for k in order
        if not any(
            a >= points[k][0] and b >= points[k][1] and (a, b) != points[k] for a, b in points
        )
    ]
