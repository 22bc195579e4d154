"""Every loss under autocast, against the same loss in float64."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from tests.losses.common import LOSSES, features, loss_on_rows
from tests.methods import ON_WEIGHTS, WITH_LOSS, accepted

ON_FEATURES = tuple(name for name in LOSSES if name not in ON_WEIGHTS)
LARGE = (*(n for n in WITH_LOSS if n in ON_FEATURES), "rift-spectrum", "rift-procrustes")
HALVES = (torch.bfloat16, torch.float16)
VALUE, SLOPE = 1e-5, 1e-4
"""Largest relative errors of a value, and of a float32 gradient by its norm."""
DIVERGENCE = 3e-5
"""The same of a value that is a sum of differences of logarithms, of both signs."""
SLOPES = {torch.bfloat16: 2**-8, torch.float16: 2**-9}
"""The same of a gradient that is rounded to the features' type; small float16 are subnormal."""


@pytest.fixture(autouse=True)
def _without_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "max_proxies=")
        yield


def results(
    loss: torch.nn.Module, student: Tensor, teacher: Tensor, half: torch.dtype | None
) -> tuple[Tensor, Tensor]:
    """Value and gradient of a batch, with autocast to ``half`` if given."""
    student = student.clone().requires_grad_()
    with torch.autocast("cpu", dtype=half, enabled=half is not None):
        made = loss(student, teacher)
    value = made if isinstance(made, Tensor) else made.alignment + made.generator
    return value, torch.autograd.grad(value, student)[0]


def errors(name: str, batch: int, half: torch.dtype, dtype: torch.dtype) -> tuple[float, float]:
    """Relative errors of value and gradient, for features of ``dtype`` under autocast."""
    options = accepted(name, proxy_ratio=0.02) if batch > 16 else {}
    loss = loss_on_rows(name, 12, batch, tokens=3, side=2, **options)
    student = features(batch, 12) + 1
    teacher = student + 0.3 * features(batch, 12, 1)
    student, teacher = student.to(dtype), teacher.to(dtype)
    value, slope = results(loss, student, teacher, half)
    assert value.dtype == torch.float32 and slope.dtype == dtype
    exact = results(copy.deepcopy(loss).double(), student.double(), teacher.double(), None)
    assert math.isfinite(float(exact[0].detach())) and exact[0] > 1e-4
    value_error = float((value.detach() - exact[0].detach()).abs() / exact[0].detach())
    return value_error, float((slope - exact[1]).norm() / exact[1].norm())


@pytest.mark.parametrize("half", HALVES, ids=str)
@pytest.mark.parametrize("name", ON_FEATURES)
def test_a_small_batch_agrees_with_float64(name: str, half: torch.dtype) -> None:
    value, slope = errors(name, 16, half, torch.float32)
    assert value <= (DIVERGENCE if name == "zscl" else VALUE) and slope <= SLOPE
    value, slope = errors(name, 16, half, half)
    assert value <= VALUE and slope <= SLOPES[half]


@pytest.mark.parametrize("name", [n for n in ON_FEATURES if not n.startswith("rift-")])
def test_nan_is_not_hidden(name: str) -> None:
    """RIFT's decompositions raise, or have a test of their own."""
    student, teacher = features(16, 12).float(), features(16, 12, 1).float()
    student[0, 0] = torch.nan
    value, slope = results(loss_on_rows(name, 12, 16, tokens=3, side=2), student, teacher, None)
    assert value.isnan() and slope.isnan().any()


@pytest.mark.parametrize("name", LARGE)
def test_a_large_batch_agrees_with_float64(name: str) -> None:
    batch = 128 if name == "rkd" else 256  # its angles grow with the cube of the batch
    value, slope = errors(name, batch, torch.bfloat16, torch.float32)
    assert value <= (DIVERGENCE if name == "zscl" else VALUE) and slope <= SLOPE
