"""LDIFSLoss against its published definition, its axes, invariances and edges."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from avalanche_proxyfda.losses import LDIFSLoss
from tests.losses.common import features
from tests.reference import ldifs as reference


def tokens(seed: int = 0, batch: int = 3) -> list[Tensor]:
    shapes = ((4, 5), (4, 5), (2, 3))
    return [features(batch * t, d, seed + k).view(batch, t, d) for k, (t, d) in enumerate(shapes)]


@pytest.mark.parametrize("axis", ["token", "channel", "auto"])
def test_tokens_equal_the_published_definition(axis: Any) -> None:
    student, teacher = [t.requires_grad_() for t in tokens()], tokens(10)
    value = LDIFSLoss(axis)(student, teacher)
    expected = reference.ldifs(student, teacher, ["token" if axis == "auto" else axis] * 3)
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=0)
    ours = torch.autograd.grad(value, student)
    for own, other in zip(ours, torch.autograd.grad(expected, student), strict=True):
        torch.testing.assert_close(own, other, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("axis", ["token", "channel", "auto"])
def test_maps_of_convolutions(axis: Any) -> None:
    student, teacher = (features(2 * 3, 8, s).view(2, 3, 2, 4) for s in (0, 1))
    flat = [m.flatten(2).transpose(1, 2) for m in (student, teacher)]
    expected = reference.ldifs(flat[:1], flat[1:], ["channel" if axis == "auto" else axis])
    torch.testing.assert_close(LDIFSLoss(axis)([student], [teacher]), expected)


def test_vectors_are_one_position() -> None:
    student, teacher = features(4, 6), features(4, 6, 1)
    expected = reference.ldifs([student[:, None]], [teacher[:, None]], ["channel"])
    for axis in ("token", "channel", "auto"):
        torch.testing.assert_close(LDIFSLoss(axis)([student], [teacher]), expected)  # type: ignore[arg-type]


def test_gradcheck() -> None:
    teacher = tokens(10)
    student = [t.requires_grad_() for t in tokens()]
    for axis in ("token", "channel"):
        loss = LDIFSLoss(axis)  # type: ignore[arg-type]
        assert torch.autograd.gradcheck(lambda *s, loss=loss: loss(s, teacher), student)


def test_exactly_zero_at_the_start() -> None:
    student = [t.float().requires_grad_() for t in tokens()]
    value = LDIFSLoss()(student, [t.detach().clone() for t in student])
    assert float(value) == 0
    assert all((g == 0).all() for g in torch.autograd.grad(value, student))


def test_invariant_to_scale_and_order_of_samples() -> None:
    student, teacher = tokens(), tokens(10)
    loss, order = LDIFSLoss(), torch.tensor([2, 0, 1])
    value = loss(student, teacher)
    torch.testing.assert_close(loss([7 * s for s in student], teacher), value)
    torch.testing.assert_close(
        loss([s[order] for s in student], [t[order] for t in teacher]), value
    )
    each = [
        loss([s[i : i + 1] for s in student], [t[i : i + 1] for t in teacher]) for i in range(3)
    ]
    torch.testing.assert_close(sum(each) / 3, value)  # samples do not meet


def test_the_teacher_receives_no_gradient() -> None:
    student, teacher = ([t.requires_grad_() for t in tokens(s)] for s in (0, 1))
    LDIFSLoss()(student, teacher).backward()
    assert all(t.grad is None for t in teacher) and all(s.grad is not None for s in student)


def test_zero_maps_and_one_sample_are_finite() -> None:
    student, teacher = tokens(batch=1), tokens(10, batch=1)
    student[0] = torch.zeros_like(student[0]).requires_grad_()
    value = LDIFSLoss()(student, teacher)
    value.backward()
    assert value > 0 and student[0].grad is not None and (student[0].grad == 0).all()
    empty = torch.zeros(0, 4, 5, requires_grad=True)
    assert float(LDIFSLoss()([empty], [empty.detach()])) == 0


def test_half_precision_is_computed_in_float32_and_nan_is_not_hidden() -> None:
    student, teacher = [t.bfloat16() for t in tokens()], [t.bfloat16() for t in tokens(10)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = LDIFSLoss()(student, teacher)
    expected = LDIFSLoss()([s.double() for s in student], [t.double() for t in teacher])
    torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-7)
    student[1][0, 0, 0] = torch.nan
    assert LDIFSLoss()(student, teacher).isnan()


@pytest.mark.parametrize("axis", ["token", "channel"])
def test_a_drift_by_a_share_of_each_norm_costs_its_square_times_the_size(axis: Any) -> None:
    """The drift is at a right angle to each row, and the loss is the published definition's."""
    teacher, share = tokens(), 0.01
    along = 1 if axis == "token" else 2
    student = []
    for seed, rows in enumerate(teacher):
        noise = torch.randn(rows.shape, generator=torch.Generator().manual_seed(seed)).double()
        unit = torch.nn.functional.normalize(rows, dim=along)
        noise = noise - (noise * unit).sum(along, keepdim=True) * unit
        noise = torch.nn.functional.normalize(noise, dim=along)
        student.append(rows + share * noise * rows.norm(dim=along, keepdim=True))
    right = reference.ldifs(student, teacher, [axis] * 3)
    size = LDIFSLoss(axis).size(teacher)
    torch.testing.assert_close(share**2 * size, right, rtol=1e-4, atol=0)
    assert size.dtype == torch.float64


def test_the_size_of_a_map_is_one_by_the_entries_of_a_norm() -> None:
    """Channels of a convolution's map, positions of tokens, and features of a vector."""
    kinds = [features(2 * 3, 8).view(2, 3, 2, 4), features(2 * 5, 7).view(2, 5, 7), features(2, 6)]
    sizes = [float(LDIFSLoss().size([each])) for each in kinds]
    assert sizes == pytest.approx([1 / 3, 1 / 5, 1 / 6])
    assert float(LDIFSLoss().size(kinds)) == pytest.approx(sum(sizes) / 3)


def test_the_size_of_maps_without_a_norm() -> None:
    assert float(LDIFSLoss().size([torch.zeros(2, 4)])) == 0.0
    assert float(LDIFSLoss().size([torch.zeros(0, 4)])) == 0.0
    assert float(LDIFSLoss().size([torch.tensor([[3.0, 4.0], [0.0, 0.0]])])) == pytest.approx(0.25)
    with pytest.raises(ValueError, match="there is no map, so no size"):
        LDIFSLoss().size([])


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="normalize='tokens' is unknown"):
        LDIFSLoss("tokens")  # type: ignore[arg-type]
    loss, good = LDIFSLoss(), tokens()
    with pytest.raises(ValueError, match="student has 3 maps, teacher 2"):
        loss(good, good[1:])
    with pytest.raises(ValueError, match="student has 0 maps"):
        loss([], [])
    with pytest.raises(ValueError, match=r"shape \(3, 4, 5\), the teacher's \(3, 2, 3\)"):
        loss(good[:1], good[2:])
    with pytest.raises(TypeError, match=r"float64 tensor of shape \(3,\)"):
        loss([good[0][:, 0, 0]], [good[0][:, 0, 0]])
    with pytest.raises(TypeError, match="int64"):
        loss([good[0].long()], [good[0].long()])
