"""Batches, steps and epochs of an experience, against a count one by one."""

from __future__ import annotations

from itertools import product
from types import SimpleNamespace
from typing import Any

import pytest

from avalanche_proxyfda.strategies.budget import (
    batches_of_epoch,
    epochs_of_steps,
    planned_batches,
    planned_steps,
)


def walked(steps: int, batches: int, accumulate: int) -> list[int]:
    """Batches of each epoch until ``steps`` steps are done, counted one by one."""
    epochs, done = [], 0
    while done < steps:
        epochs.append(0)
        held = 0
        for number in range(batches):
            epochs[-1] += 1
            held += 1
            if held == accumulate or number == batches - 1:
                done, held = done + 1, 0
            if done == steps:
                break
    return epochs


def strategy_of(steps: int | None, batches: int, accumulate: int, epochs: int) -> Any:
    return SimpleNamespace(
        train_steps=steps,
        dataloader=range(batches),
        accumulate=accumulate,
        train_epochs=epochs,
        clock=SimpleNamespace(train_exp_epochs=0),
    )


def test_steps_are_counted_as_the_loop_does() -> None:
    for steps, batches, accumulate in product(range(1, 12), range(1, 6), (1, 2, 3, 7)):
        expected = walked(steps, batches, accumulate)
        assert epochs_of_steps(steps, batches, accumulate) == len(expected)
        made = strategy_of(steps, batches, accumulate, len(expected))
        assert planned_batches(made) == sum(expected) and planned_steps(made) == steps
        for epoch in range(len(expected) + 1):
            made.clock.train_exp_epochs = epoch
            assert batches_of_epoch(made, made.dataloader) == [*expected, 0][epoch]


def test_epochs_decide_without_a_number_of_steps() -> None:
    made = strategy_of(None, 5, 2, 3)
    assert (planned_batches(made), planned_steps(made)) == (15, 9)
    assert batches_of_epoch(made, made.dataloader) == 5


@pytest.mark.parametrize(
    ("arguments", "error"),
    [((0, 3), ValueError), ((1.5, 3), TypeError), ((1, 0), ValueError), ((1, 3, 0), ValueError)],
    ids=str,
)
def test_other_numbers_are_refused(arguments: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="must be"):
        epochs_of_steps(*arguments)
