"""Claims: p-values of paired tests against SciPy, and Holm's correction by hand."""

from __future__ import annotations

import random

import pytest
from scipy.stats import ttest_rel

from benchmarks.results.claims import holm, paired_p


def test_the_paired_test_is_scipys() -> None:
    draw = random.Random(0)
    for count in (2, 3, 5, 10):
        one = {seed: draw.gauss(0.3, 1) for seed in range(count)}
        two = {seed: draw.gauss(0, 1) for seed in range(count)}
        expected = ttest_rel(list(one.values()), list(two.values())).pvalue
        assert paired_p(one, two) == pytest.approx(expected, rel=1e-9)
        assert paired_p(two, one) == pytest.approx(expected, rel=1e-9)


def test_only_shared_seeds_count_and_each_is_paired_with_itself() -> None:
    one, two = {0: 1.0, 1: 2.0, 2: 4.0}, {2: 1.0, 1: 0.0, 0: 0.0}
    assert paired_p(one, two) == pytest.approx(float(ttest_rel([1, 2, 4], [0, 0, 1]).pvalue))
    assert paired_p(one | {7: 100.0}, two) == paired_p(one, two)


def test_equal_differences() -> None:
    assert paired_p({0: 1.0, 1: 2.0}, {0: 1.0, 1: 2.0}) == 1.0
    with pytest.raises(ValueError, match="are all equal: the t-test is not defined"):
        paired_p({0: 1.0, 1: 2.0}, {0: 0.0, 1: 1.0})


def test_differences_that_are_equal_but_for_rounding() -> None:
    tenth = ({0: 0.3, 1: 0.4, 2: 0.7}, {0: 0.2, 1: 0.3, 2: 0.6})
    with pytest.raises(ValueError, match="are all equal: the t-test is not defined"):
        paired_p(*tenth)
    with pytest.raises(ValueError, match="are all equal"):
        paired_p(*({seed: 1e6 * x for seed, x in values.items()} for values in tenth))
    assert paired_p({0: 0.1 + 0.2, 1: 0.5}, {0: 0.3, 1: 0.5}) == 1.0
    assert paired_p({0: 0.0, 1: 0.0}, {0: 0.0, 1: 0.0}) == 1.0


def test_small_differences_that_are_no_rounding_count() -> None:
    one, two = {0: 1e-5, 1: 2e-5, 2: 4e-5}, {0: 0.0, 1: 0.0, 2: 1e-5}
    assert paired_p(one, two) == pytest.approx(0.0742, abs=1e-4)
    shifted = ({seed: 0.7 + x for seed, x in values.items()} for values in (one, two))
    assert paired_p(*shifted) == pytest.approx(0.0742, abs=1e-4)


@pytest.mark.parametrize("values", [{}, {0: 1.0}, {0: 1.0, 1: float("nan")}])
def test_too_few_or_bad_values_are_refused(values: dict[int, float]) -> None:
    with pytest.raises(ValueError, match="must be finite, for two seeds at least"):
        paired_p(values, {0: 0.0, 1: 0.5})


def test_holm_by_hand() -> None:
    # sorted: 0.005 * 4, 0.01 * 3, 0.03 * 2, 0.04 * 1, which is raised to the value before it
    corrected = holm({"a": 0.04, "b": 0.005, "c": 0.03, "d": 0.01})
    assert corrected == pytest.approx({"a": 0.06, "b": 0.02, "c": 0.06, "d": 0.03})
    assert list(corrected) == ["a", "b", "c", "d"]
    assert holm({"a": 0.6, "b": 0.9}) == {"a": 1.0, "b": 1.0}
    assert holm({}) == {} and holm({"a": 0.2}) == {"a": 0.2}
    with pytest.raises(ValueError, match="must lie in"):
        holm({"a": -0.1})
