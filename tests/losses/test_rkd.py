"""RKDLoss against the loops, its invariances, edges and memory."""

from __future__ import annotations

import pytest
import torch

from avalanche_proxyfda.losses import RKDLoss, chunks, distances, rkd
from benchmarks.perf.counting import memory_of
from benchmarks.perf.saved import saved_bytes
from tests.losses.common import features, rotation
from tests.reference.rkd import rkd as reference


@pytest.mark.parametrize(("batch", "dim"), [(6, 4), (2, 3), (4, 7)])
@pytest.mark.parametrize("weights", [(1.0, 2.0), (0.5, 0.0), (0.0, 1.0)])
def test_value_and_gradient_equal_the_loops(
    batch: int, dim: int, weights: tuple[float, float]
) -> None:
    student, teacher = features(batch, dim).requires_grad_(), features(batch, 5, 1)
    value, expected = RKDLoss(*weights)(student, teacher), reference(student, teacher, *weights)
    torch.testing.assert_close(value, expected, rtol=1e-11, atol=1e-13)
    if batch > 2 or weights[0] == 0:
        ours, theirs = (torch.autograd.grad(v, student)[0] for v in (value, expected))
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


def test_duplicates_count_as_no_distance_and_no_angle() -> None:
    student = features(5, 3)
    student[3] = student[1]
    student.requires_grad_()
    teacher = features(5, 3, 1)
    value, expected = RKDLoss()(student, teacher), reference(student, teacher, 1.0, 2.0)
    torch.testing.assert_close(value, expected, rtol=1e-11, atol=1e-13)
    ours, theirs = (torch.autograd.grad(v, student)[0] for v in (value, expected))
    assert ours.isfinite().all()
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


def test_gradcheck() -> None:
    teacher = features(5, 4, 1)
    assert torch.autograd.gradcheck(
        lambda s: RKDLoss()(s, teacher), features(5, 4).requires_grad_()
    )


def test_exactly_zero_at_the_start() -> None:
    student = features(10, 6).float().requires_grad_()
    value = RKDLoss()(student, student.detach().clone())
    (gradient,) = torch.autograd.grad(value, student)
    assert float(value) == 0 and (gradient == 0).all()


def test_invariant_to_rotation_shift_scale_and_order() -> None:
    loss, student, teacher = RKDLoss(), features(7, 4), features(7, 4, 1)
    value, order = loss(student, teacher), torch.randperm(7)
    for changed in (student @ rotation(4), student + 3, student * 40):
        torch.testing.assert_close(loss(changed, teacher), value)
    torch.testing.assert_close(loss(student[order], teacher[order]), value)
    assert not torch.isclose(loss(student[order], teacher), value)


def test_chunks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    student, teacher = features(11, 4).requires_grad_(), features(11, 4, 1)
    whole = RKDLoss()(student, teacher)
    monkeypatch.setattr(rkd, "_CHUNK", 11 * 11 * 3)  # three vertices, then a rest of two
    parts = RKDLoss()(student, teacher)
    torch.testing.assert_close(parts, whole)
    for module in (chunks, distances):
        monkeypatch.setattr(module, "block_bytes", lambda device: 8 * 11 * 11 * 3)
    with memory_of(2**30):
        accelerated = RKDLoss()(student, teacher)
        torch.testing.assert_close(accelerated, whole)
        ours = [torch.autograd.grad(v, student)[0] for v in (parts, accelerated)]
    (theirs,) = torch.autograd.grad(whole, student)
    for one in ours:
        torch.testing.assert_close(one, theirs)


def test_bytes_kept_for_backward_grow_with_the_square_of_the_batch() -> None:
    kept = []
    for batch in (64, 128):
        student = torch.randn(batch, 128, requires_grad=True)
        teacher = torch.randn(batch, 128)
        kept.append(saved_bytes(lambda s=student, t=teacher: RKDLoss()(s, t), (student, teacher)))
    assert kept[0] < 6 * 64 * 64 * 4 + 6 * 64 * 128 * 4 and kept[1] < 4.5 * kept[0]


def test_edges() -> None:
    one = features(1, 4).requires_grad_()
    value = RKDLoss()(one, features(1, 4, 1))
    value.backward()
    assert float(value) == 0 and one.grad is not None
    same = torch.ones(4, 3, requires_grad=True)
    value = RKDLoss()(same, features(4, 3, 1))
    value.backward()
    assert value.isfinite() and same.grad is not None and same.grad.isfinite().all()
    student = features(4, 3)
    student[0, 0] = torch.nan
    assert RKDLoss()(student, features(4, 3, 1)).isnan()


def test_half_precision_is_computed_in_float32() -> None:
    student, teacher = features(9, 6).bfloat16(), features(9, 6, 1).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = RKDLoss()(student, teacher)
    assert value.dtype == torch.float32
    expected = RKDLoss()(student.double(), teacher.double())
    torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-6)


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="distance_weight=-1"):
        RKDLoss(-1)
    with pytest.raises(TypeError, match="angle_weight='2'"):
        RKDLoss(1.0, "2")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="student has 3 rows, teacher has 2"):
        RKDLoss()(features(3, 4), features(2, 4))
