"""PKTLoss against the loops, its invariances, edges and memory."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from avalanche_proxyfda.losses import PKTLoss
from benchmarks.perf.saved import saved_bytes
from tests.losses.common import features, rotation
from tests.reference.pkt import pkt as reference

KERNELS = pytest.mark.parametrize("kernel", ["softmax", "cosine"])


@pytest.mark.parametrize(("batch", "dim"), [(6, 4), (2, 3), (4, 7)])
@pytest.mark.parametrize(("kernel", "scale"), [("softmax", 10), ("softmax", 0.5), ("cosine", None)])
def test_value_and_gradient_equal_the_loops(batch: int, dim: int, kernel: Any, scale: Any) -> None:
    student, teacher = features(batch, dim).requires_grad_(), features(batch, 5, 1)
    value = PKTLoss(scale, kernel)(student, teacher)
    expected = reference(student, teacher, kernel, scale or 10.0)
    torch.testing.assert_close(value, expected, rtol=1e-11, atol=1e-13)
    assert value > 0 or batch == 2  # a distribution over one sample is 1
    ours, theirs = (torch.autograd.grad(v, student)[0] for v in (value, expected))
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


@KERNELS
def test_duplicates_and_zero_rows_equal_the_loops(kernel: Any) -> None:
    student, teacher = features(5, 3), features(5, 3, 1)
    student[3], teacher[2] = student[1], 0
    student[4] = 0
    value, expected = PKTLoss(kernel=kernel)(student, teacher), reference(student, teacher, kernel)
    torch.testing.assert_close(value, expected, rtol=1e-11, atol=1e-13)
    student.requires_grad_()
    (slope,) = torch.autograd.grad(PKTLoss(kernel=kernel)(student, teacher), student)
    assert slope.isfinite().all() and (slope[4] == 0).all() and slope[0].any()


@KERNELS
def test_gradcheck(kernel: Any) -> None:
    loss, teacher = PKTLoss(kernel=kernel), features(5, 4, 1)
    assert torch.autograd.gradcheck(lambda s: loss(s, teacher), features(5, 4).requires_grad_())


@KERNELS
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_exactly_zero_at_the_start(kernel: Any, dtype: torch.dtype) -> None:
    """The plain gradient of a softmax would be rounding error here."""
    student = features(33, 6).to(dtype).requires_grad_()
    value = PKTLoss(kernel=kernel)(student, student.detach().clone())
    (gradient,) = torch.autograd.grad(value, student)
    assert float(value) == 0 and (gradient == 0).all()


@KERNELS
def test_invariant_to_rotation_scale_and_order(kernel: Any) -> None:
    loss, student, teacher = PKTLoss(kernel=kernel), features(7, 4), features(7, 4, 1)
    value, order = loss(student, teacher), torch.randperm(7)
    sizes = torch.arange(1, 8, dtype=torch.float64)[:, None]
    for changed in (student @ rotation(4), student * 40, student * sizes):
        torch.testing.assert_close(loss(changed, teacher), value)
        torch.testing.assert_close(loss(student, teacher @ rotation(4)), value)
    torch.testing.assert_close(loss(student[order], teacher[order]), value)
    assert not torch.isclose(loss(student[order], teacher), value)
    assert not torch.isclose(loss(student + 1, teacher), value)


def test_opposite_rows_are_finite_in_the_cosine_kernel() -> None:
    student = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]], requires_grad=True)
    value = PKTLoss(kernel="cosine")(student, torch.eye(3))
    (slope,) = torch.autograd.grad(value, student)
    assert value > 1 and value.isfinite() and slope.isfinite().all()


def test_bytes_kept_for_backward_grow_with_the_square_of_the_batch() -> None:
    kept = []
    for batch in (64, 128):
        student, teacher = features(batch, 128).float().requires_grad_(), features(batch, 128)
        teacher = teacher.float()
        kept.append(saved_bytes(lambda s=student, t=teacher: PKTLoss()(s, t), (student, teacher)))
    assert kept[0] < 3 * 64 * 64 * 4 + 6 * 64 * 128 * 4 and kept[1] < 4.5 * kept[0]


def test_edges() -> None:
    for count in (0, 1):
        one = features(count, 4).requires_grad_()
        value = PKTLoss()(one, features(count, 4, 1))
        value.backward()
        assert float(value) == 0 and one.grad is not None
    same = torch.ones(4, 3, requires_grad=True)
    value = PKTLoss()(same, features(4, 3, 1))
    value.backward()
    assert value.isfinite() and same.grad is not None and same.grad.isfinite().all()


def test_half_precision_of_the_cosine_kernel_is_computed_in_float32() -> None:
    """tests/losses/test_precision.py has the softmax kernel."""
    loss = PKTLoss(kernel="cosine")
    student, teacher = features(9, 6).bfloat16(), features(9, 6, 1).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(student, teacher)
    assert value.dtype == torch.float32
    expected = loss(student.double(), teacher.double())
    torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"scale": 0}, ValueError, "scale=0 makes all distributions uniform"),
        ({"scale": -1.0}, ValueError, "scale=-1.0 must be finite and not negative"),
        ({"scale": "10"}, TypeError, "scale='10' must be a number"),
        ({"kernel": "rbf"}, ValueError, "kernel='rbf' is unknown"),
        ({"kernel": "cosine", "scale": 3}, ValueError, "scale=3 belongs to the softmax kernel"),
    ],
)
def test_bad_options(options: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        PKTLoss(**options)


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="student has 3 rows, teacher has 2"):
        PKTLoss()(features(3, 4), features(2, 4))
