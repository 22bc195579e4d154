"""ZSCLLoss against the loops, its exact zero, invariances and edges."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from avalanche_proxyfda.losses import ZSCLLoss
from benchmarks.perf.saved import saved_bytes
from tests.losses.common import features, rotation
from tests.reference.zscl import zscl as reference


def batch(images: int = 4, texts: int = 3, dim: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    """Student, with gradient, teacher and texts."""
    student = features(images, dim).requires_grad_()
    return student, features(images, dim, 1), features(texts, dim, 2)


@pytest.mark.parametrize(("images", "texts"), [(4, 3), (1, 3), (3, 1)])
@pytest.mark.parametrize(("scale", "temperature"), [(4.0, 2.0), (100.0, 1.5)])
def test_value_and_gradient_equal_the_loops(
    images: int, texts: int, scale: float, temperature: float
) -> None:
    student, teacher, words = batch(images, texts)
    value = ZSCLLoss(scale, temperature)(student, teacher, words)
    expected = reference(student, teacher, words, words, scale, temperature)
    torch.testing.assert_close(value, expected, rtol=1e-10, atol=1e-13)
    ours, theirs = (torch.autograd.grad(v, student)[0] for v in (value, expected))
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)


def test_the_students_own_texts_receive_the_gradient() -> None:
    student, teacher, texts = batch()
    own = features(3, 5, 3).requires_grad_()
    value = ZSCLLoss(4.0)(student, teacher, texts, own)
    expected = reference(student, teacher, texts, own, 4.0, 2.0)
    torch.testing.assert_close(value, expected, rtol=1e-11, atol=1e-13)
    for ours, theirs in zip(
        torch.autograd.grad(value, (student, own)),
        torch.autograd.grad(expected, (student, own)),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


def test_it_is_the_authors_cross_entropy_less_the_teachers_entropy() -> None:
    student, teacher, texts = batch()
    unit = torch.nn.functional.normalize
    own, other = (4.0 * unit(x) @ unit(texts).T for x in (student, teacher))
    expected = torch.zeros((), dtype=torch.float64)
    for s, t in ((own, other), (own.T, other.T)):
        q = torch.softmax(t / 2, dim=1)
        entropy = -(q * q.log()).sum(dim=1).mean()
        expected = expected + 4 * (torch.nn.functional.cross_entropy(s / 2, q) - entropy)
    torch.testing.assert_close(ZSCLLoss(4.0)(student, teacher, texts), expected)


def test_gradcheck() -> None:
    student, teacher, texts = batch()
    own = features(3, 5, 3).requires_grad_()
    loss = ZSCLLoss(4.0)
    assert torch.autograd.gradcheck(lambda s, w: loss(s, teacher, texts, w), (student, own))


@pytest.mark.parametrize("own_texts", [False, True])
def test_value_and_gradient_are_exactly_zero_at_the_start(own_texts: bool) -> None:
    student, texts = features(33, 17).float().requires_grad_(), features(21, 17, 2).float()
    own = texts.clone().requires_grad_()
    value = ZSCLLoss()(student, student.detach().clone(), texts, own if own_texts else None)
    inputs = (student, own) if own_texts else (student,)
    assert float(value) == 0
    assert all((g == 0).all() for g in torch.autograd.grad(value, inputs))


def test_invariant_to_order_scale_and_common_rotation() -> None:
    loss, (student, teacher, texts) = ZSCLLoss(4.0), batch()
    value, images, words = loss(student, teacher, texts), [2, 0, 3, 1], [1, 2, 0]
    turn = rotation(5)
    for changed in (
        loss(student[images], teacher[images], texts),
        loss(student, teacher, texts[words]),
        loss(7 * student, 0.1 * teacher, 3 * texts),
        loss(student @ turn, teacher @ turn, texts @ turn),
    ):
        torch.testing.assert_close(changed, value)
    assert not torch.isclose(loss(student[images], teacher, texts), value)
    assert not torch.isclose(loss(student @ turn, teacher, texts), value)  # unlike FDA


def test_teacher_and_its_texts_receive_no_gradient() -> None:
    student, teacher, texts = batch()
    teacher.requires_grad_(), texts.requires_grad_()
    ZSCLLoss()(student, teacher, texts).backward()
    assert student.grad is not None and teacher.grad is None and texts.grad is None


def test_rows_of_zero_norm_and_no_images() -> None:
    student, teacher, texts = batch()
    zeros = student.detach().clone()
    zeros[1] = 0
    zeros.requires_grad_()
    texts[0] = 0
    value = ZSCLLoss(4.0)(zeros, teacher, texts)
    torch.testing.assert_close(value, reference(zeros, teacher, texts, texts, 4.0, 2.0))
    (gradient,) = torch.autograd.grad(value, zeros)
    assert gradient.isfinite().all() and (gradient[1] == 0).all()
    empty = torch.zeros(0, 5, requires_grad=True)
    value = ZSCLLoss()(empty, teacher[:0], texts)
    value.backward()
    assert float(value) == 0 and empty.grad is not None


def test_bytes_kept_for_backward_grow_with_images_times_texts() -> None:
    student, teacher, texts = (x.detach().float() for x in batch(64, 256, 32))
    student.requires_grad_()
    kept = saved_bytes(lambda: ZSCLLoss()(student, teacher, texts), (student, teacher, texts))
    assert kept < 3 * 64 * 256 * 4 + 4 * (64 + 256) * 32 * 4


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"student": features(3, 5)}, ValueError, "student has 3 rows, teacher has 4"),
        ({"student": features(4, 6)}, ValueError, "student has 6 columns, teacher has 5"),
        ({"teacher": features(4, 5)[0]}, ValueError, r"teacher has shape \(5,\)"),
        ({"texts": features(3, 4)}, ValueError, r"texts has shape \(3, 4\); expected \[M, 5\]"),
        ({"texts": features(0, 5)}, ValueError, r"texts has shape \(0, 5\)"),
        ({"texts": torch.ones(3, 5).long()}, TypeError, "texts must be a floating-point tensor"),
        ({"student_texts": features(2, 5)}, ValueError, "student_texts has 2 rows, texts has 3"),
        ({"student_texts": features(3, 4)}, ValueError, r"student_texts has shape \(3, 4\)"),
    ],
)
def test_bad_input(change: dict[str, Any], error: type[Exception], words: str) -> None:
    student, teacher, texts = batch()
    with pytest.raises(error, match=words):
        ZSCLLoss()(**{"student": student, "teacher": teacher, "texts": texts, **change})


@pytest.mark.parametrize("name", ["scale", "temperature"])
def test_bad_options(name: str) -> None:
    for value, error, words in (
        (0.0, ValueError, f"{name}=0 must be positive"),
        (-1.0, ValueError, f"{name}=-1.0 must be finite and not negative"),
        ("2", TypeError, f"{name}='2' must be a number"),
    ):
        with pytest.raises(error, match=words):
            ZSCLLoss(**{name: value})  # type: ignore[arg-type]
