"""LipsumFTLoss against the loops, its exact zero, invariances and edges."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from avalanche_proxyfda.losses import LipsumFTLoss
from tests.losses.common import features, rotation
from tests.reference.lipsum import lipsum as reference


def batch(images: int = 4, texts: int = 3, dim: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    """Student, with gradient, teacher and texts."""
    student = features(images, dim).requires_grad_()
    return student, features(images, dim, 1), features(texts, dim, 2)


@pytest.mark.parametrize(("images", "texts"), [(4, 3), (1, 7)])
@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_value_and_gradient_equal_the_loops(images: int, texts: int, scale: float) -> None:
    student, teacher, words = batch(images, texts)
    value, expected = (
        LipsumFTLoss(scale)(student, teacher, words),
        reference(student, teacher, words, scale),
    )
    torch.testing.assert_close(value, expected, rtol=1e-11, atol=1e-13)
    ours, theirs = (torch.autograd.grad(v, student)[0] for v in (value, expected))
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)


def test_gradcheck() -> None:
    student, teacher, texts = batch()
    assert torch.autograd.gradcheck(lambda s: LipsumFTLoss(3.0)(s, teacher, texts), student)


def test_value_and_gradient_are_exactly_zero_at_the_start() -> None:
    student, texts = features(33, 17).float().requires_grad_(), features(21, 17, 2).float()
    value = LipsumFTLoss()(student, student.detach().clone(), texts)
    (gradient,) = torch.autograd.grad(value, student)
    assert float(value) == 0 and (gradient == 0).all()


def test_invariant_to_order_scale_and_directions_without_text() -> None:
    loss, (student, teacher, texts) = LipsumFTLoss(4.0), batch()
    value, order = loss(student, teacher, texts), [2, 0, 3, 1]
    turn = rotation(5)
    for changed in (
        loss(student[order], teacher[order], texts),
        loss(student, teacher, texts[[1, 2, 0]]),
        loss(7 * student, 0.1 * teacher, 3 * texts),
        loss(student @ turn, teacher @ turn, texts @ turn),
        sum(loss(student[i : i + 1], teacher[i : i + 1], texts) for i in range(4)) / 4,
    ):
        torch.testing.assert_close(changed, value)
    assert not torch.isclose(loss(student @ turn, teacher, texts), value)
    mirror = torch.diag(torch.tensor([1.0, 1, 1, 1, -1], dtype=torch.float64))
    texts[:, 4] = 0  # no text has this direction, so the loss does not see it
    torch.testing.assert_close(
        loss(student @ mirror, teacher, texts), loss(student, teacher, texts)
    )


def test_teacher_and_texts_receive_no_gradient() -> None:
    student, teacher, texts = batch()
    teacher.requires_grad_(), texts.requires_grad_()
    LipsumFTLoss()(student, teacher, texts).backward()
    assert student.grad is not None and teacher.grad is None and texts.grad is None


def test_rows_of_zero_norm_and_no_images() -> None:
    student, teacher, texts = batch()
    zeros = student.detach().clone()
    zeros[1] = 0
    zeros.requires_grad_()
    texts[0] = 0
    value = LipsumFTLoss(4.0)(zeros, teacher, texts)
    torch.testing.assert_close(value, reference(zeros, teacher, texts, 4.0))
    (gradient,) = torch.autograd.grad(value, zeros)
    assert gradient.isfinite().all() and (gradient[1] == 0).all()
    empty = torch.zeros(0, 5, requires_grad=True)
    value = LipsumFTLoss()(empty, teacher[:0], texts)
    value.backward()
    assert float(value) == 0 and empty.grad is not None


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"student": features(3, 5)}, ValueError, "student has 3 rows, teacher has 4"),
        ({"teacher": features(4, 6)}, ValueError, "student has 5 columns, teacher has 6"),
        ({"texts": features(3, 4)}, ValueError, r"texts has shape \(3, 4\); expected \[M, 5\]"),
        ({"texts": features(0, 5)}, ValueError, r"texts has shape \(0, 5\)"),
        ({"texts": torch.ones(3, 5).long()}, TypeError, "encode token ids with the text tower"),
    ],
)
def test_bad_input(change: dict[str, Any], error: type[Exception], words: str) -> None:
    student, teacher, texts = batch()
    with pytest.raises(error, match=words):
        LipsumFTLoss()(**{"student": student, "teacher": teacher, "texts": texts, **change})


def test_bad_scale() -> None:
    with pytest.raises(ValueError, match="scale=0 must be positive"):
        LipsumFTLoss(0.0)
    with pytest.raises(ValueError, match=r"scale=-1.0 must be finite and not negative"):
        LipsumFTLoss(-1.0)
    with pytest.raises(TypeError, match="scale='1' must be a number"):
        LipsumFTLoss("1")  # type: ignore[arg-type]
