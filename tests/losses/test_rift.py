"""RIFTLoss against loops and searches over rotations, its invariances and edges."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from avalanche_proxyfda.losses import RIFTLoss
from tests.losses.common import features, rotation
from tests.reference import rift as reference

SIZES = [(9, 4), (4, 9), (5, 5), (3, 8), (40, 6)]  # B > D, B < D, equal, 2B < D
KINDS = ("identity", "spectrum", "procrustes")


@pytest.mark.parametrize(("batch", "dim"), SIZES)
def test_identity_equals_the_loops(batch: int, dim: int) -> None:
    student, teacher = features(batch, dim).requires_grad_(), features(batch, dim, 1) + 2
    value = RIFTLoss(mean_weight=0.7)(student, teacher)
    mean = reference.mean_term(student, teacher)
    expected = reference.identity(student, teacher) + 0.7 * mean
    torch.testing.assert_close(value, expected, rtol=1e-11, atol=0)
    ours, theirs = (torch.autograd.grad(v, student)[0] for v in (value, expected))
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("batch", "dim"), SIZES)
def test_spectrum_is_the_least_over_rotations(batch: int, dim: int) -> None:
    student, teacher = features(batch, dim), features(batch, dim, 1)
    value, source = RIFTLoss("spectrum")(student, teacher), torch.Generator().manual_seed(0)
    best = reference.turned_covariance(student, teacher, reference.aligning(student, teacher))
    torch.testing.assert_close(value, best, rtol=1e-9, atol=1e-12)
    tried = [
        reference.turned_covariance(student, teacher, reference.random_rotation(dim, source))
        for _ in range(200)
    ]
    assert value <= min(tried)
    assert value <= RIFTLoss()(student, teacher)


def test_a_search_over_rotations_of_the_plane_comes_down_to_the_spectrum() -> None:
    student, teacher = features(7, 2), features(7, 2, 1) * torch.tensor([1.0, 3.0])
    value = float(RIFTLoss("spectrum")(student, teacher))
    tried = []
    for angle in torch.linspace(0, torch.pi, 2001, dtype=torch.float64):
        turn = torch.stack((angle.cos(), -angle.sin(), angle.sin(), angle.cos())).view(2, 2)
        tried.append(float(reference.turned_covariance(student, teacher, turn)))
    assert value <= min(tried) < value * (1 + 1e-4) < max(tried)


@pytest.mark.parametrize(("batch", "dim"), SIZES)
def test_procrustes_is_the_least_over_rotations_of_rows(batch: int, dim: int) -> None:
    student, teacher = features(batch, dim).requires_grad_(), features(batch, dim, 1)
    value = RIFTLoss("procrustes")(student, teacher)
    expected = reference.procrustes(student, teacher)
    torch.testing.assert_close(value, expected, rtol=1e-9, atol=1e-12)
    ours, theirs = (torch.autograd.grad(v, student)[0] for v in (value, expected))
    torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-9)
    source = torch.Generator().manual_seed(0)
    for _ in range(100):
        turn = reference.random_rotation(dim, source)
        assert value <= reference.turned_rows(student, teacher, turn)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("batch", "dim"), SIZES[:-1])  # the last is B > D again, and slow
def test_gradcheck(kind: Any, batch: int, dim: int) -> None:
    loss, teacher = RIFTLoss(kind, mean_weight=0.5), features(batch, dim, 1)
    assert torch.autograd.gradcheck(
        lambda s: loss(s, teacher), features(batch, dim).requires_grad_()
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("batch", "dim"), [*SIZES, (64, 512)])
def test_exactly_zero_at_the_start(kind: Any, batch: int, dim: int) -> None:
    student = features(batch, dim).float().requires_grad_()
    value = RIFTLoss(kind, mean_weight=1.0)(student, student.detach().clone())
    (gradient,) = torch.autograd.grad(value, student)
    assert float(value) == 0 and (gradient == 0).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("batch", "dim"), SIZES)
def test_what_a_rotation_changes(kind: Any, batch: int, dim: int) -> None:
    loss, student, teacher = RIFTLoss(kind), features(batch, dim), features(batch, dim, 1)
    value, turned = loss(student, teacher), loss(student @ rotation(dim), teacher)
    assert torch.isclose(value, turned) == (kind != "identity")
    both = loss(student @ rotation(dim), teacher @ rotation(dim))
    torch.testing.assert_close(both, value)


@pytest.mark.parametrize("kind", KINDS)
def test_invariant_to_order_shift_and_common_scale(kind: Any) -> None:
    loss, student, teacher = RIFTLoss(kind), features(7, 4), features(7, 4, 1)
    value, order = loss(student, teacher), torch.randperm(7)
    torch.testing.assert_close(loss(student[order], teacher[order]), value)
    torch.testing.assert_close(loss(student + 5, teacher), value)
    torch.testing.assert_close(loss(student * 30, teacher * 30), value)
    pairs = torch.isclose(loss(student[order], teacher), value)
    assert pairs == (kind != "procrustes")  # only paired features know who is who


@pytest.mark.parametrize("kind", KINDS)
def test_edges(kind: Any) -> None:
    loss = RIFTLoss(kind, mean_weight=1.0)
    one = features(1, 4).requires_grad_()
    value = loss(one, features(1, 4, 1))
    value.backward()
    assert float(value) == 0 and one.grad is not None
    student = features(5, 4).requires_grad_()
    same = torch.ones(5, 4, dtype=torch.float64)
    value = loss(student, same)  # the teacher's features do not vary
    value.backward()
    assert value.isfinite() and student.grad is not None and student.grad.isfinite().all()
    zero = torch.zeros(5, 4, dtype=torch.float64, requires_grad=True)
    value = loss(zero, features(5, 4, 1))
    value.backward()
    assert value.isfinite() and zero.grad is not None and zero.grad.isfinite().all()


@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_is_computed_in_float32(kind: Any) -> None:
    student, teacher = features(20, 6).bfloat16(), features(20, 6, 1).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = RIFTLoss(kind)(student, teacher)
    assert value.dtype == torch.float32
    expected = RIFTLoss(kind)(student.double(), teacher.double())
    torch.testing.assert_close(value.double(), expected, rtol=1e-4, atol=1e-6)


def test_nan_is_not_hidden() -> None:
    student = features(5, 4)
    student[0, 0] = torch.nan
    assert RIFTLoss()(student, features(5, 4, 1)).isnan()


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="q='svd' is unknown; choose one of"):
        RIFTLoss("svd")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="mean_weight=-1"):
        RIFTLoss(mean_weight=-1)
    with pytest.raises(ValueError, match="student has 4 columns, teacher has 5"):
        RIFTLoss()(features(3, 4), features(3, 5))
    with pytest.raises(ValueError, match="student has 3 rows, teacher has 2"):
        RIFTLoss()(features(3, 4), features(2, 4))
