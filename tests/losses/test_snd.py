"""SNDLoss against the loops, its exact zero, the gradient of a norm at 0, and edges."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from avalanche_proxyfda.losses import SNDLoss
from tests.losses.common import features, rotation
from tests.reference.snd import snd as reference

KINDS = [(d, s) for d in ("squared", "norm") for s in ("image", "batch")]


def batch(images: int = 4, dim: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    """Student, with gradient, previous and initial teacher; the teachers differ little."""
    initial = features(images, dim, 1)
    previous = initial + 0.2 * features(images, dim, 2)
    return (initial + 0.3 * features(images, dim)).requires_grad_(), previous, initial


@pytest.mark.parametrize(("distance", "selection"), KINDS)
@pytest.mark.parametrize("images", [4, 1])
def test_value_and_gradient_equal_the_loops(distance: Any, selection: Any, images: int) -> None:
    student, previous, initial = batch(images)
    value = SNDLoss(2.0, 0.7, 0.1, 5.0, distance, selection)(student, previous, initial)
    expected = reference(
        student,
        previous,
        initial,
        (2.0, 0.7),
        0.1,
        5.0,
        distance == "squared",
        selection == "image",
    )
    torch.testing.assert_close(value, expected, rtol=1e-11, atol=1e-13)
    ours, theirs = (torch.autograd.grad(v, student)[0] for v in (value, expected))
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


def test_the_batch_selection_is_the_authors_product_of_a_column_and_a_row() -> None:
    units = [torch.nn.functional.normalize(x) for x in batch()]
    student, previous, initial = units
    share = torch.sigmoid(6 * ((initial - previous).norm(dim=-1) - 0.2)).reshape(-1, 1)
    near, far = ((student - t).norm(dim=-1) ** 2 for t in (previous, initial))
    expected = 9 * (share * near).mean() + 0.5 * ((1 - share) * far).mean()
    loss = SNDLoss(selection="batch")
    torch.testing.assert_close(loss(*batch()), expected)
    assert not torch.isclose(SNDLoss()(*batch()), expected)


@pytest.mark.parametrize(("distance", "selection"), KINDS)
def test_gradcheck(distance: Any, selection: Any) -> None:
    student, previous, initial = batch()
    loss = SNDLoss(distance=distance, selection=selection)
    assert torch.autograd.gradcheck(lambda s: loss(s, previous, initial), student)


@pytest.mark.parametrize(("distance", "selection"), KINDS)
def test_value_and_gradient_are_exactly_zero_at_the_start(distance: Any, selection: Any) -> None:
    student = features(33, 17).float().requires_grad_()
    known = student.detach().clone()
    value = SNDLoss(distance=distance, selection=selection)(student, known, known)
    (gradient,) = torch.autograd.grad(value, student)
    assert float(value) == 0 and (gradient == 0).all()


def test_a_student_on_one_teacher_gets_the_gradient_of_the_other_alone() -> None:
    _, previous, initial = batch()
    student = previous.clone().requires_grad_()
    value = SNDLoss(distance="norm")(student, previous, initial)
    alone = SNDLoss(0.0, distance="norm")(student, previous, initial)
    assert value > 0
    ours, theirs = (torch.autograd.grad(v, student)[0] for v in (value, alone))
    assert ours.isfinite().all() and (ours == theirs).all() and ours.norm() > 0


def test_moved_images_follow_the_previous_model() -> None:
    """Far beyond the threshold s is 1, far below it 0."""
    student, _, initial = batch()
    moved, still = -initial, initial
    loss = SNDLoss(sharpness=100.0)
    torch.testing.assert_close(
        loss(student, moved, initial), 9 * loss_of(student, moved), rtol=1e-6, atol=0
    )
    torch.testing.assert_close(
        loss(student, still, initial), 0.5 * loss_of(student, still), rtol=1e-6, atol=0
    )


def loss_of(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared distance of directions."""
    unit = torch.nn.functional.normalize
    return (unit(student) - unit(teacher)).square().sum(dim=1).mean()


def test_invariant_to_order_scale_and_common_rotation() -> None:
    loss, (student, previous, initial) = SNDLoss(), batch()
    value, order, turn = loss(student, previous, initial), [2, 0, 3, 1], rotation(5)
    for changed in (
        loss(student[order], previous[order], initial[order]),
        loss(7 * student, 0.1 * previous, 3 * initial),
        loss(student @ turn, previous @ turn, initial @ turn),
    ):
        torch.testing.assert_close(changed, value)
    assert not torch.isclose(loss(student[order], previous, initial), value)


def test_teachers_receive_no_gradient() -> None:
    student, previous, initial = batch()
    previous.requires_grad_(), initial.requires_grad_()
    SNDLoss()(student, previous, initial).backward()
    assert student.grad is not None and previous.grad is None and initial.grad is None


@pytest.mark.parametrize("distance", ["squared", "norm"])
def test_rows_of_zero_norm_and_no_images(distance: Any) -> None:
    student, previous, initial = batch()
    zeros = student.detach().clone()
    zeros[1] = 0
    zeros.requires_grad_()
    initial[1] = previous[1] = 0
    value = SNDLoss(distance=distance)(zeros, previous, initial)
    squared = distance == "squared"
    expected = reference(zeros, previous, initial, (9.0, 0.5), 0.2, 6.0, squared, True)
    torch.testing.assert_close(value, expected)
    (gradient,) = torch.autograd.grad(value, zeros)
    assert gradient.isfinite().all() and (gradient[1] == 0).all()
    empty = torch.zeros(0, 5, requires_grad=True)
    value = SNDLoss(distance=distance)(empty, previous[:0], initial[:0])
    value.backward()
    assert float(value) == 0 and empty.grad is not None


def test_bad_input() -> None:
    student, previous, initial = batch()
    with pytest.raises(ValueError, match="student has 4 rows, teacher has 3"):
        SNDLoss()(student, previous[:3], initial)
    with pytest.raises(ValueError, match="student has 5 columns, teacher has 4"):
        SNDLoss()(student, previous, initial[:, :4])
    with pytest.raises(TypeError, match="teacher must be a floating-point tensor"):
        SNDLoss()(student, previous.long(), initial)


@pytest.mark.parametrize("name", ["previous_weight", "initial_weight", "threshold", "sharpness"])
def test_bad_numbers(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}=-1 must be finite and not negative"):
        SNDLoss(**{name: -1})  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=f"{name}='1' must be a number"):
        SNDLoss(**{name: "1"})  # type: ignore[arg-type]


def test_bad_choices() -> None:
    with pytest.raises(ValueError, match="distance='l2' is unknown"):
        SNDLoss(distance="l2")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="selection='all' is unknown"):
        SNDLoss(selection="all")  # type: ignore[arg-type]
