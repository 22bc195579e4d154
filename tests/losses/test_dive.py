"""DiVELoss against the loops, its running mean, exact zero, invariances and edges."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from avalanche_proxyfda.losses import DiVELoss
from tests.losses.common import features
from tests.reference.dive import dive as reference
from tests.reference.dive import running_mean

BATCHES = [(features(n, 5, 10 + n), features(n, 5, 20 + n)) for n in (4, 2, 3)]


def followed(decay: float = 0.9) -> DiVELoss:
    """A loss that has followed three batches."""
    loss = DiVELoss(decay)
    for student, teacher in BATCHES:
        loss.follow(student, teacher)
    return loss


def mean_of(loss: DiVELoss) -> Tensor:
    """The running mean, which must exist."""
    assert loss.mean is not None
    return loss.mean


@pytest.mark.parametrize("decay", [0.99, 0.5, 0.0])
def test_value_gradient_and_running_mean_equal_the_loops(decay: float) -> None:
    loss, expected_mean = followed(decay), running_mean(BATCHES, decay)
    torch.testing.assert_close(mean_of(loss), expected_mean, rtol=1e-12, atol=1e-14)
    student, teacher = features(4, 5).requires_grad_(), features(4, 5, 1)
    value, expected = loss(student, teacher), reference(student, teacher, expected_mean)
    torch.testing.assert_close(value, expected, rtol=1e-11, atol=1e-13)
    ours, theirs = (torch.autograd.grad(v, student)[0] for v in (value, expected))
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-13)


def test_gradcheck() -> None:
    loss, teacher = followed(), features(4, 5, 1)
    assert torch.autograd.gradcheck(lambda s: loss(s, teacher), features(4, 5).requires_grad_())


def test_value_and_gradient_are_exactly_zero_at_the_start() -> None:
    student, loss = features(33, 17).float().requires_grad_(), DiVELoss()
    teacher = student.detach().clone()
    loss.follow(student, teacher)  # a mean of zeros is zero
    assert (mean_of(loss) == 0).all() and not mean_of(loss).requires_grad
    value = loss(student, teacher)
    (gradient,) = torch.autograd.grad(value, student)
    assert float(value) == 0 and (gradient == 0).all()


def test_a_shift_by_the_running_mean_costs_nothing() -> None:
    loss, teacher = followed(), features(4, 5, 1)
    student = (teacher + mean_of(loss)).requires_grad_()
    value = loss(student, teacher)
    assert value < 1e-30
    assert loss(student + 1, teacher) > 1


def test_the_running_mean_comes_to_a_constant_shift() -> None:
    loss, teacher = DiVELoss(0.5), features(4, 5, 1)
    for _ in range(60):
        loss.follow(teacher + 3, teacher)
    torch.testing.assert_close(mean_of(loss), torch.full((5,), 3.0, dtype=torch.float64))


def test_forward_changes_no_state_and_reset_forgets_it() -> None:
    loss, student, teacher = followed(), features(4, 5), features(4, 5, 1)
    before, value = mean_of(loss).clone(), loss(student, teacher)
    assert torch.equal(mean_of(loss), before) and torch.equal(loss(student, teacher), value)
    loss.reset()
    assert loss.mean is None
    torch.testing.assert_close(loss(student, teacher), DiVELoss()(student, teacher))


def test_invariant_to_order_and_common_shift() -> None:
    loss, student, teacher = followed(), features(4, 5), features(4, 5, 1)
    value, order, shift = loss(student, teacher), [2, 0, 3, 1], features(1, 5, 3)
    torch.testing.assert_close(loss(student[order], teacher[order]), value)
    torch.testing.assert_close(loss(student + shift, teacher + shift), value)
    assert not torch.isclose(loss(student[order], teacher), value)
    other = DiVELoss(0.9)
    for own, known in BATCHES:
        other.follow(own.flip(0), known.flip(0))
    torch.testing.assert_close(mean_of(other), mean_of(loss))


def test_the_teacher_receives_no_gradient() -> None:
    student, teacher = features(4, 5).requires_grad_(), features(4, 5, 1).requires_grad_()
    followed()(student, teacher).backward()
    assert student.grad is not None and teacher.grad is None


def test_zero_rows_one_image_and_no_images() -> None:
    loss, teacher = followed(), features(1, 5, 1)
    student = torch.zeros(1, 5, dtype=torch.float64, requires_grad=True)
    value = loss(student, teacher)
    torch.testing.assert_close(value, reference(student, teacher, mean_of(loss)))
    assert torch.autograd.grad(value, student)[0].isfinite().all()
    empty, before = torch.zeros(0, 5, requires_grad=True), mean_of(loss).clone()
    loss.follow(empty, teacher[:0])
    value = loss(empty, teacher[:0])
    value.backward()
    assert float(value) == 0 and empty.grad is not None and torch.equal(mean_of(loss), before)


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_the_running_mean_of_half_precision_is_float32(half: torch.dtype) -> None:
    loss, exact = DiVELoss(0.9), DiVELoss(0.9)
    for own, known in BATCHES:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss.follow(own.to(half), known.to(half))
        exact.follow(own.to(half).double(), known.to(half).double())
    assert mean_of(loss).dtype == torch.float32
    torch.testing.assert_close(mean_of(loss).double(), mean_of(exact), rtol=1e-5, atol=1e-7)


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="student has 4 rows, teacher has 3"):
        DiVELoss()(features(4, 5), features(3, 5))
    with pytest.raises(ValueError, match="student has 4 columns, teacher has 5"):
        DiVELoss().follow(features(4, 4), features(4, 5))
    with pytest.raises(ValueError, match=r"have 4 columns, but the running mean has 5: .*reset"):
        followed()(features(4, 4), features(4, 4))
    with pytest.raises(ValueError, match=r"decay=1.0 must be below 1"):
        DiVELoss(1.0)
    with pytest.raises(ValueError, match=r"decay=-0.1 must be finite and not negative"):
        DiVELoss(-0.1)
    with pytest.raises(TypeError, match=r"decay='0.9' must be a number"):
        DiVELoss("0.9")  # type: ignore[arg-type]
