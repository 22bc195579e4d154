"""DistillationLoss against the loop, its invariances and edges."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from avalanche_proxyfda.losses import DistillationLoss
from tests.losses.common import features
from tests.reference import distillation as reference


@pytest.mark.parametrize("temperature", [0.5, 2.0, 10.0])
@pytest.mark.parametrize(("batch", "units"), [(5, 4), (1, 3), (4, 1)])
def test_value_and_gradient_equal_the_loop(temperature: float, batch: int, units: int) -> None:
    student, teacher = features(batch, units).requires_grad_(), features(batch, units, 1)
    value = DistillationLoss(temperature)(student, teacher)
    expected = reference.distillation(student, teacher, temperature)
    torch.testing.assert_close(value, expected, rtol=1e-10, atol=1e-14)
    ours, theirs = (torch.autograd.grad(v, student)[0] for v in (value, expected))
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-14)


def test_gradcheck() -> None:
    teacher = features(4, 5, 1)
    assert torch.autograd.gradcheck(
        lambda s: DistillationLoss(2.0)(s, teacher), features(4, 5).requires_grad_()
    )


def test_zero_at_the_start_and_no_gradient_to_the_teacher() -> None:
    student = features(6, 4).float().requires_grad_()
    teacher = student.detach().clone().requires_grad_()
    value = DistillationLoss()(student, teacher)
    value.backward()
    assert float(value) == 0 and teacher.grad is None
    assert student.grad is not None and student.grad.abs().max() < 1e-7  # rounding of p - q


def test_invariant_to_order_and_to_a_shift_of_a_samples_logits() -> None:
    student, teacher = features(6, 4), features(6, 4, 1)
    value, order = DistillationLoss()(student, teacher), torch.randperm(6)
    torch.testing.assert_close(DistillationLoss()(student[order], teacher[order]), value)
    shifted = student + features(6, 1, 2)
    torch.testing.assert_close(DistillationLoss()(shifted, teacher - 3), value)


def test_confident_logits_are_finite_and_nan_is_not_hidden() -> None:
    student, teacher = torch.tensor([[1e4, -1e4]]), torch.tensor([[-1e4, 1e4]])
    assert DistillationLoss()(student, teacher).isfinite()
    student[0, 0] = torch.nan
    assert DistillationLoss()(student, teacher).isnan()


def test_half_precision_and_no_samples() -> None:
    student, teacher = features(6, 4).bfloat16(), features(6, 4, 1).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = DistillationLoss()(student, teacher)
    expected = DistillationLoss()(student.double(), teacher.double())
    torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-7)
    assert float(DistillationLoss()(student[:0], teacher[:0])) == 0


def test_bad_input() -> None:
    with pytest.raises(ValueError, match=r"student \(3, 4\) and teacher \(3, 5\)"):
        DistillationLoss()(features(3, 4), features(3, 5))
    with pytest.raises(ValueError, match="at least one"):
        DistillationLoss()(features(3, 0), features(3, 0))


@pytest.mark.parametrize(
    ("temperature", "error", "words"),
    [
        (0.0, ValueError, "temperature=0 must be positive"),
        (-1.0, ValueError, "temperature=-1.0 must be finite and not negative"),
        (float("nan"), ValueError, "temperature=nan must be finite"),
        ("2", TypeError, "temperature='2' must be a number"),
    ],
)
def test_bad_temperatures(temperature: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        DistillationLoss(temperature)


def test_it_has_no_state() -> None:
    assert not DistillationLoss().state_dict()  # checkpoints of LwF hold no loss
