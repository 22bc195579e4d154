"""RIFT with a learned Q, and with second moments that are not centred."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from avalanche_proxyfda.losses import RIFTLoss
from tests.losses.common import features, rotation
from tests.losses.test_rift import SIZES
from tests.reference import rift as reference


def learned(dim: int, seed: int | None = 3, **options: Any) -> RIFTLoss:
    """A loss in float64 whose Q is far from the identity; ``seed=None`` leaves it there."""
    loss = RIFTLoss("learned", dim=dim, **options).double()
    if seed is not None:
        loss.skew.data = features(dim, dim, seed)
    return loss


@pytest.mark.parametrize("centered", [True, False])
@pytest.mark.parametrize(("batch", "dim"), SIZES)
def test_value_and_gradients_equal_the_loops(batch: int, dim: int, centered: bool) -> None:
    loss, student = learned(dim, centered=centered), features(batch, dim).requires_grad_()
    teacher, lower = features(batch, dim, 1) + 0.5, loss.skew.detach().clone().requires_grad_()
    moment = reference.covariance if centered else reference.second_moment
    q, c0 = reference.cayley(lower), moment(teacher)
    expected = reference.squared(moment(student) - q @ c0 @ q.T) / reference.squared(c0)
    value = loss(student, teacher)
    torch.testing.assert_close(value, expected, rtol=1e-10, atol=0)
    ours = torch.autograd.grad(value, (student, loss.skew))
    theirs = torch.autograd.grad(expected, (student, lower))
    for own, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-8, atol=1e-11)
    assert ours[1].norm() > 0 and (ours[1].triu() == 0).all()


@pytest.mark.parametrize(("batch", "dim"), SIZES[:-1])
def test_gradcheck(batch: int, dim: int) -> None:
    loss, teacher = learned(dim, mean_weight=0.5), features(batch, dim, 1)

    def value(student: Tensor, skew: Tensor) -> Tensor:
        made: Tensor = torch.func.functional_call(loss, {"skew": skew}, (student, teacher))
        return made

    student = features(batch, dim).requires_grad_()
    assert torch.autograd.gradcheck(value, (student, features(dim, dim, 3).requires_grad_()))


@pytest.mark.parametrize("dim", [1, 2, 7, 64])
def test_the_rotation_is_orthogonal_and_cayley_s(dim: int) -> None:
    loss = learned(dim)
    q = loss.rotation()
    one = torch.eye(dim, dtype=torch.float64)
    torch.testing.assert_close(q @ q.T, one)
    torch.testing.assert_close(q, reference.cayley(loss.skew.detach()))
    assert torch.linalg.det(q).item() == pytest.approx(1)
    torch.testing.assert_close(learned(dim, None).rotation(), one, rtol=0, atol=0)


@pytest.mark.parametrize(("batch", "dim"), [*SIZES, (64, 512)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_exactly_zero_at_the_start(batch: int, dim: int, dtype: torch.dtype) -> None:
    for centered in (True, False):
        loss = RIFTLoss("learned", mean_weight=1.0, centered=centered, dim=dim)
        student = features(batch, dim).to(dtype).requires_grad_()
        value = loss(student, student.detach().clone())
        slopes = torch.autograd.grad(value, (student, loss.skew))
        assert float(value) == 0 and all((slope == 0).all() for slope in slopes)


def test_descent_finds_a_rotation_between_identity_and_spectrum() -> None:
    teacher = features(30, 5) * torch.arange(1.0, 6, dtype=torch.float64)
    turn = torch.linalg.matrix_exp(0.3 * (features(5, 5, 4) - features(5, 5, 4).T))
    student = teacher @ turn + 0.1 * features(30, 5, 2)
    loss = learned(5, None)
    start = float(loss(student, teacher))
    assert start == pytest.approx(float(RIFTLoss()(student, teacher)))
    optimizer = torch.optim.Adam(loss.parameters(), lr=0.02)
    for _ in range(300):
        optimizer.zero_grad()
        loss(student, teacher).backward()
        optimizer.step()
    end, least = float(loss(student, teacher)), float(RIFTLoss("spectrum")(student, teacher))
    assert least <= end * (1 + 1e-9) and end < 0.02 * start and end < 2 * least + 1e-3


def test_what_changes_a_learned_rotation() -> None:
    loss, student, teacher = learned(4), features(7, 4), features(7, 4, 1)
    value, order = loss(student, teacher), torch.randperm(7)
    torch.testing.assert_close(loss(student[order], teacher), value)  # covariances are not paired
    torch.testing.assert_close(loss(student + 5, teacher - 3), value)
    torch.testing.assert_close(loss(student * 30, teacher * 30), value)
    assert not torch.isclose(loss(student @ rotation(4), teacher), value)


# ---- second moments ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["identity", "spectrum", "procrustes"])
@pytest.mark.parametrize(("batch", "dim"), SIZES)
def test_without_centring_the_rows_are_taken_as_they_are(kind: Any, batch: int, dim: int) -> None:
    """Rows and their negatives together have the mean 0, and the same second moment."""
    student, teacher = features(batch, dim), features(batch, dim, 1) + 1
    value = RIFTLoss(kind, centered=False)(student, teacher)
    both = torch.cat((student, -student)), torch.cat((teacher, -teacher))
    torch.testing.assert_close(value, RIFTLoss(kind)(*both))
    assert not torch.isclose(value, RIFTLoss(kind)(student, teacher))
    assert not torch.isclose(value, RIFTLoss(kind, centered=False)(student + 1, teacher))


@pytest.mark.parametrize(("batch", "dim"), [*SIZES, (1, 4)])
def test_the_second_moment_equals_the_loops(batch: int, dim: int) -> None:
    student, teacher = features(batch, dim).requires_grad_(), features(batch, dim, 1) + 1
    value = RIFTLoss(centered=False, mean_weight=0.7)(student, teacher)
    shift = reference.squared(student.mean(dim=0) - teacher.mean(dim=0))
    mean = shift / reference.second_moment(teacher).trace()
    expected = reference.uncentred_identity(student, teacher) + 0.7 * mean
    torch.testing.assert_close(value, expected, rtol=1e-11, atol=0)
    ours, theirs = (torch.autograd.grad(v, student)[0] for v in (value, expected))
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


# ---- bad input --------------------------------------------------------------------------------


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="q='learned' with dim=None: 'learned' needs dim"):
        RIFTLoss("learned")
    with pytest.raises(ValueError, match=r"q='spectrum' with dim=4: .*the other choices of q take"):
        RIFTLoss("spectrum", dim=4)
    with pytest.raises(ValueError, match="dim=0 must be at least 1"):
        RIFTLoss("learned", dim=0)
    with pytest.raises(TypeError, match=r"dim=4\.0 must be an int"):
        RIFTLoss("learned", dim=4.0)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="centered=1 must be True or False"):
        RIFTLoss(centered=1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="the features have 5 columns, but dim=4 is the width"):
        RIFTLoss("learned", dim=4)(features(3, 5), features(3, 5))
    with pytest.raises(ValueError, match="q='identity' learns no rotation; q='learned' does"):
        RIFTLoss().rotation()
