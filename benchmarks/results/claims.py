"""Tests of claims: a paired t-test over seeds, and Holm's correction for several claims."""

from __future__ import annotations

import math
from collections.abc import Mapping

from scipy.special import stdtr

from benchmarks.results.intervals import rounding_of


def paired_p(values: Mapping[int, float], base: Mapping[int, float]) -> float:
    """Return the p-value of Student's two-sided paired t-test over the seeds that both have.

    Args:
        values: values of one method by seed.
        base: values of the other method by seed.

    Raises:
        ValueError: for fewer than two shared seeds, a value that is not finite, or differences
            that are all equal and not zero, for which the test is not defined. Differences
            that agree to 1e-9 of the largest value are equal.

    Example:
        >>> round(paired_p({0: 1.0, 1: 2.0, 2: 4.0}, {0: 0.0, 1: 0.0, 2: 1.0}), 4)
        0.0742
    """
    shared = sorted(set(values) & set(base))
    differences = [values[seed] - base[seed] for seed in shared]
    count = len(shared)
    if count < 2 or not all(map(math.isfinite, differences)):
        raise ValueError(f"differences={differences} must be finite, for two seeds at least")
    mean = math.fsum(differences) / count
    variance = math.fsum((each - mean) ** 2 for each in differences) / (count - 1)
    bound = rounding_of(values, base)
    if math.sqrt(variance) <= bound:
        if abs(mean) <= bound:
            return 1.0
        raise ValueError(f"differences={differences} are all equal: the t-test is not defined")
    return float(2 * stdtr(count - 1, -abs(mean) / math.sqrt(variance / count)))


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Return p-values with Holm's correction (1979): each claim holds if its value is below α.

    The k-th smallest of n values is multiplied by n − k + 1, and is at least as large as the
    corrected value before it.

    Args:
        p_values: p-values by claim.

    Raises:
        ValueError: for a value outside [0, 1].

    Example:
        >>> holm({"a": 0.01, "b": 0.04, "c": 0.03})
        {'a': 0.03, 'b': 0.06, 'c': 0.06}
    """
    if not all(0 <= p <= 1 for p in p_values.values()):
        raise ValueError(f"p_values={dict(p_values)} must lie in [0, 1]")
    corrected: dict[str, float] = {}
    largest = 0.0
    for rank, name in enumerate(sorted(p_values, key=lambda name: p_values[name])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[name]))
        corrected[name] = largest
    return {name: corrected[name] for name in p_values}
