"""Intervals over seeds, paired differences, and the front of points."""

from __future__ import annotations

import math
import random

import pytest

from benchmarks.results import intervals
from benchmarks.results.intervals import interval, paired, pareto, t_quantile


def test_students_t_for_few_seeds() -> None:
    table = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 10: 2.262}  # from a textbook
    for count, value in table.items():
        assert t_quantile(count) == pytest.approx(value, abs=5e-4)
    found = interval({0: 1.0, 1: 2.0, 2: 4.0})
    assert found is not None and found.half is not None
    deviation = math.sqrt(sum((x - 7 / 3) ** 2 for x in (1, 2, 4)) / 2)  # ddof = 1
    assert found.mean == pytest.approx(7 / 3)
    assert found.half == pytest.approx(4.3027 * deviation / math.sqrt(3), rel=1e-4)
    single = interval({7: 1.0})
    assert single is not None and single.half is None and not single.excludes_zero
    assert interval({}) is None
    with pytest.raises(ValueError, match="must be finite"):
        interval({0: math.nan})
    with pytest.raises(ValueError, match="needs two values"):
        t_quantile(1)


@pytest.mark.parametrize("error", [0.0, 1e-9, -1e-9])
def test_students_t_is_that_of_its_formula_with_every_scipy(
    error: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One and two degrees of freedom have a closed form; older SciPy is right to ten digits."""
    exact = intervals.stdtrit
    monkeypatch.setattr(intervals, "stdtrit", lambda *given: exact(*given) * (1 + error))
    assert t_quantile(2) == round(math.tan(0.475 * math.pi), 10)
    assert t_quantile(3) == round(0.95 * math.sqrt(2 / (1 - 0.95**2)), 10)
    assert t_quantile(10) == 2.2621571628


def test_differences_are_paired_by_seed() -> None:
    found = paired({0: 1.0, 1: 5.0, 3: 9.0}, {0: 0.5, 1: 4.0, 2: 100.0})
    assert found is not None and found.values == {0: 0.5, 1: 1.0}
    assert found.half == pytest.approx(12.706 * 0.25, abs=1e-3) and not found.excludes_zero
    assert paired({0: 1.0}, {1: 1.0}) is None


def test_equal_differences_allow_no_interval() -> None:
    found = paired({0: 0.6025, 1: 0.5025}, {0: 0.6, 1: 0.5})  # one image of 400, twice
    assert found is not None and found.mean == pytest.approx(0.0025)
    assert found.half is None and not found.excludes_zero
    same = paired({0: 0.1 + 0.2, 1: 0.1 + 0.2}, {0: 0.3, 1: 0.3})  # apart by rounding alone
    assert same is not None and (same.mean, same.half) == (0.0, 0.0)
    assert not same.excludes_zero
    frozen = interval({0: 0.6, 1: 0.6})  # a method without chance
    assert frozen is not None and (frozen.mean, frozen.half) == (0.6, 0.0)


def test_the_front_against_a_slow_loop() -> None:
    lot = random.Random(0)
    for _ in range(50):
        points = [(lot.randint(0, 5), lot.randint(0, 5)) for _ in range(12)]
        slow = {
            k
            for k, (a, b) in enumerate(points)
            if all(not (c >= a and d >= b and (c > a or d > b)) for c, d in points)
        }
        assert set(pareto(points)) == slow
