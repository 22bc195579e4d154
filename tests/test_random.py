"""Snapshots of the global random streams, and named streams."""

from __future__ import annotations

import random
from contextlib import suppress

import numpy as np
import pytest
import torch

from avalanche_proxyfda._random import RandomState, generator, mixed_seed, preserved_rng, seeded

DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    ),
]


def draw(device: str) -> tuple[float, ...]:
    """Return one number from each global stream: Python, NumPy, torch, and the device's."""
    return (
        random.random(),
        float(np.random.rand()),  # noqa: NPY002
        float(torch.rand(())),
        float(torch.rand((), device=device)),
    )


@pytest.mark.parametrize("device", DEVICES)
def test_restore_repeats_every_stream(device: str) -> None:
    state = RandomState.capture(torch.device(device))
    first = draw(device)
    assert draw(device) != first
    RandomState(torch.device(device), state.state_dict()).restore()
    assert draw(device) == first


def test_a_checkpoint_holds_these_streams() -> None:
    state = RandomState.capture(torch.device("cpu")).state_dict()
    assert list(state) == ["python", "numpy", "torch", "device"] and state["device"] is None


@pytest.mark.parametrize("device", DEVICES)
def test_again_repeats_numbers_and_then_continues(device: str) -> None:
    reference = RandomState.capture(torch.device(device))
    first, second = draw(device), draw(device)
    reference.restore()
    assert draw(device) == first
    with reference.again():
        assert draw(device) == first
    assert draw(device) == second


def test_torch_only_leaves_python_and_numpy_alone() -> None:
    whole = RandomState.capture(torch.device("cpu"))
    partial = RandomState.capture(torch.device("cpu"), torch_only=True)
    numbers = [draw("cpu") for _ in range(2)]
    whole.restore()
    draw("cpu")
    partial.restore()
    assert draw("cpu") == numbers[1][:2] + numbers[0][2:]


@pytest.mark.parametrize("device", DEVICES)
def test_preserved_rng_restores_after_an_error(device: str) -> None:
    state = RandomState.capture(torch.device(device))
    expected = draw(device)
    state.restore()
    with suppress(ZeroDivisionError), preserved_rng(torch.device(device)):
        assert draw(device) == expected
        raise ZeroDivisionError
    assert draw(device) == expected


def test_seeded_draws_the_same_numbers_and_restores() -> None:
    state = RandomState.capture(torch.device("cpu"))
    expected = draw("cpu")
    state.restore()
    with seeded(2**40 + 3):
        first = draw("cpu")
    assert draw("cpu") == expected
    with seeded(2**40 + 3):
        assert draw("cpu") == first
    with seeded(2**40 + 4):
        assert draw("cpu") != first


def test_a_named_stream_depends_on_all_parts_of_its_name() -> None:
    assert mixed_seed("batches", 0, 3) == 3030313398663863326
    seeds = {mixed_seed("a", 1), mixed_seed("a", 2), mixed_seed("b", 1), mixed_seed("a", 1, 1)}
    assert len(seeds) == 4
    assert generator("a", 1).initial_seed() == mixed_seed("a", 1)
