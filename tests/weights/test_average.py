"""RunningAverage against the loops; constants keep their bits."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from avalanche_proxyfda.weights import RunningAverage
from tests.reference.average import mean_of, moving_average

SHAPES = {"a": (3, 4), "b": (5,), "c": ()}


def drawn(seed: int, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    source = torch.Generator().manual_seed(seed)
    made = {n: torch.randn(s, generator=source, dtype=dtype) for n, s in SHAPES.items()}
    return {**made, "count": torch.tensor(seed)}


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("decay", [None, 0.0, 0.4, 0.9])
def test_averages_equal_the_loops(decay: float | None, every: int) -> None:
    states = [drawn(k) for k in range(12)]
    average = RunningAverage(states[0], decay, every)
    for state in states[1:]:
        average.step(state)
    taken = states[every::every]
    assert (average.steps, average.count) == (11, len(taken))
    assert int(average.tensors["count"]) == (11 if every == 1 else 9)
    for name in SHAPES:
        start, *others = (s[name].flatten().tolist() for s in (states[0], *taken))
        expected = mean_of(start, others) if decay is None else moving_average(start, others, decay)
        assert average.tensors[name].flatten().tolist() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("decay", [None, 0.0, 0.3, 0.999])
def test_the_average_of_a_constant_is_the_constant_to_the_bit(
    decay: float | None, dtype: torch.dtype
) -> None:
    constant = drawn(3, dtype)
    average = RunningAverage(constant, decay)
    for _ in range(50):
        average.step(constant)
    assert all(torch.equal(value, constant[name]) for name, value in average.tensors.items())


def test_the_start_is_copied_and_a_decay_of_zero_is_the_newest_to_the_bit() -> None:
    start, newest = drawn(0), drawn(1)
    average = RunningAverage(start, 0.0)
    average.step(newest)
    assert all(torch.equal(average.tensors[n], newest[n]) for n in SHAPES)
    assert all(torch.equal(start[n], drawn(0)[n]) for n in SHAPES)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"decay": 1.0}, ValueError, r"decay=1.0 must lie in \[0, 1\)"),
        ({"decay": -0.1}, ValueError, "decay=-0.1 must be finite and not negative"),
        ({"decay": "x"}, TypeError, "decay='x' must be a number"),
        ({"every": 0}, ValueError, "every=0"),
        ({"every": 2.5}, TypeError, "every=2.5"),
    ],
)
def test_bad_options(options: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        RunningAverage({}, **options)


@pytest.mark.parametrize("decay", [None, 0.9])
def test_a_step_without_a_tensor_of_the_start_is_refused(decay: float | None) -> None:
    average = RunningAverage({"a": torch.zeros(2), "b": torch.zeros(3)}, decay)
    for weights in ({"a": torch.ones(2)}, {"a": torch.ones(2), "b": torch.ones(1)}):
        with pytest.raises(ValueError, match=r"in another shape, b: give tensors of the names"):
            average.step(weights)
    assert average.count == average.steps == 0 and not average.tensors["a"].any()
    average.step({"a": torch.ones(2), "b": torch.ones(3), "new": torch.ones(1)})
    assert average.count == 1 and average.tensors["a"].all()


def test_the_average_of_half_precision_weights_moves_as_that_of_their_values() -> None:
    """Steps of a thousandth of the way, each below the spacing of bfloat16."""
    start, end = torch.full((3,), 1.0), torch.full((3,), 1.25)
    averages = []
    for dtype in (torch.bfloat16, torch.float32):
        average = RunningAverage({"w": start.to(dtype)}, 0.999)
        for _ in range(700):
            average.step({"w": end.to(dtype)})
        averages.append(average.tensors["w"])
    assert averages[0].dtype == torch.float32 and torch.equal(*averages)
    expected = 1.25 - 0.25 * 0.999**700
    assert averages[0].tolist() == pytest.approx([expected] * 3, rel=1e-5)
