"""Every loss on the second device: the numbers of the CPU, and no wait of the host."""

from __future__ import annotations

import copy
import inspect
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.methods import VARIANTS, WITH_LOSS, method_of, toy_loss
from tests.second_device import device as counts

BATCH, WIDTH = 12, 8
NAMES = [*WITH_LOSS, *(name for name in VARIANTS if method_of(name) in WITH_LOSS)]
DECOMPOSES = {"rift-spectrum", "rift-procrustes"}
"""Losses that decompose a matrix, for which the host waits."""


def inputs_of(loss: Any, place: torch.device) -> list[Any]:
    """Return the features that a loss takes; lists of them for a loss of several layers."""
    source = torch.Generator().manual_seed(5)
    many = "Sequence" in str(inspect.signature(loss.forward))

    def rows() -> Any:
        made = [torch.randn(BATCH, WIDTH, generator=source).to(place) for _ in range(3)]
        return made if many else made[0]

    student, *others = (rows() for _ in inputs_named(loss))
    for one in student if many else [student]:
        one.requires_grad_()
    return [student, *others]


def inputs_named(loss: Any) -> list[str]:
    """Return the names of the arguments that a loss needs."""
    parameters = inspect.signature(loss.forward).parameters.values()
    return [p.name for p in parameters if p.default is p.empty]


def gradients_of(loss: Any, place: torch.device) -> list[Tensor]:
    """Return the value of the loss, and its gradients by student features and parameters."""
    given = inputs_of(loss, place)
    counts.reset()
    value = loss(*given)
    total = value if isinstance(value, Tensor) else sum(v for v in value if v is not None)
    total.backward()
    students = given[0] if isinstance(given[0], list) else given[:1]
    return [
        total.detach(),
        *(v.grad for v in (*students, *loss.parameters()) if v.grad is not None),
    ]


# torch resizes the output of smooth_l1_loss where a device has no kernel of its own for it
@pytest.mark.filterwarnings("ignore:An output with one or more elements was resized")
@pytest.mark.parametrize("name", NAMES)
def test_a_loss_has_the_numbers_of_the_cpu_and_does_not_wait(
    name: str, second: torch.device
) -> None:
    here = toy_loss(name, WIDTH, BATCH)
    there = copy.deepcopy(here).to(second)
    on_host = gradients_of(here, torch.device("cpu"))
    on_device = gradients_of(there, second)
    waits, operations = counts.waits(), counts.operations()
    assert (sum(waits.values()) > 0) == (name in DECOMPOSES), waits
    assert sum(operations.values()) > 5
    assert len(on_device) == len(on_host) > 1
    for one, other in zip(on_device, on_host, strict=True):
        assert one.device == second
        torch.testing.assert_close(one.cpu(), other, rtol=2e-4, atol=1e-6)
