"""FDALoss against the loops, its value table, invariances and edges."""

from __future__ import annotations

import subprocess
import sys
import warnings

import pytest
import torch

from avalanche_proxyfda._tensors import unit_rows
from avalanche_proxyfda.losses import FDALoss
from avalanche_proxyfda.losses.graph import GraphLoss, edge_weight
from tests.losses.common import features, rotation
from tests.reference import fda as reference

MODES = ("similarity", "clamped", "one-minus", "unit")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("batch", "k"), [(9, 3), (6, 5), (5, 1), (2, 1)])
def test_value_and_gradients_equal_the_loops(mode: str, batch: int, k: int) -> None:
    student, teacher = features(batch, 7).requires_grad_(), features(batch, 4, seed=1)
    loss = FDALoss(k, negative_weight=mode, init_logit_scale=6.0, init_logit_bias=-3.0).double()
    value = loss(student, teacher)
    inputs = (student, loss.log_scale, loss.bias)
    expected = reference.fda(student, teacher, k, loss.log_scale.exp(), loss.bias, mode)
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-12)
    ours = torch.autograd.grad(value, inputs)
    theirs = torch.autograd.grad(expected, inputs)
    for own, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-10, atol=1e-12)


def test_gradcheck() -> None:
    loss = FDALoss(3, init_logit_bias=-2.0).double()
    teacher = features(7, 5, seed=1)
    assert torch.autograd.gradcheck(lambda s: loss(s, teacher), features(7, 6).requires_grad_())


@pytest.mark.parametrize(("w", "cos", "value"), [(0.7, 0.7, 2.22), (-0.6, 0.6, 0.087)])
def test_value_table_pins_the_sign_of_the_bias(w: float, cos: float, value: float) -> None:
    term = GraphLoss().sigmoid_loss(torch.tensor(cos), torch.tensor(w))
    assert float(term) == pytest.approx(value, rel=5e-3)


def test_negative_weights_of_non_neighbours() -> None:
    similarity = torch.tensor([0.6, -0.4])
    assert edge_weight(similarity, False, "similarity").tolist() == pytest.approx([-0.6, 0.4])
    assert edge_weight(similarity, False, "clamped").tolist() == pytest.approx([-0.6, 0.0])
    assert edge_weight(similarity, False, "one-minus").tolist() == pytest.approx([-0.4, -1.4])
    assert edge_weight(similarity, True, "one-minus").tolist() == pytest.approx([0.6, -0.4])
    assert edge_weight(similarity, True, "unit").tolist() == [1.0, 1.0]


@pytest.mark.parametrize(("mode", "attracts"), [("similarity", True), ("clamped", False)])
def test_a_non_neighbour_with_a_negative_cosine_attracts_by_the_letter(
    mode: str, attracts: bool
) -> None:
    teacher = torch.tensor([[1.0, 0.0], [0.8, 0.6], [-0.6, 0.8]], dtype=torch.float64)
    student = teacher.clone().requires_grad_()
    loss = FDALoss(1, negative_weight=mode, learnable=False).double()  # type: ignore[arg-type]
    # row 2 is no neighbour of row 0, and their cosine is -0.6
    loss(student, teacher).backward()
    near = FDALoss(1, negative_weight="clamped", learnable=False).double()
    other = teacher.clone().requires_grad_()
    near(other, teacher).backward()
    assert student.grad is not None and other.grad is not None
    towards = -(student.grad[0] - other.grad[0]) @ teacher[2]
    assert bool(towards > 1e-6) is attracts


def test_invariant_to_rotation_scale_and_order() -> None:
    student, teacher = features(12, 8), features(12, 5, seed=1)
    loss = FDALoss(4).double()
    value = loss(student, teacher)
    scales = torch.linspace(0.01, 50, 12, dtype=torch.float64).unsqueeze(1)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(2))
    for changed in (student @ rotation(8), student * scales):
        torch.testing.assert_close(loss(changed, teacher), value)
    torch.testing.assert_close(loss(student[order], teacher[order]), value)
    assert not torch.isclose(loss(student[order], teacher), value)


def test_not_zero_at_the_teacher_and_sharpens_the_graph() -> None:
    same = features(12, 8).requires_grad_()
    value = FDALoss(4).double()(same, same.detach())
    (gradient,) = torch.autograd.grad(value, same)
    assert value > 0 and gradient.norm() > 1e-4


def test_swapping_a_neighbour_with_a_stranger_raises_the_loss() -> None:
    angle = torch.tensor([0.0, 0.1, 0.2, 1.4, 1.5, 1.6], dtype=torch.float64)
    teacher = torch.stack((angle.cos(), angle.sin()), dim=1)
    swapped = teacher[[0, 3, 2, 1, 4, 5]]
    loss = FDALoss(2).double()
    assert loss(swapped, teacher) > loss(teacher, teacher)


def test_the_teacher_receives_no_gradient() -> None:
    student, teacher = features(6, 4).requires_grad_(), features(6, 4, seed=1).requires_grad_()
    FDALoss(2).double()(student, teacher).backward()
    assert teacher.grad is None and student.grad is not None


def test_zero_rows_give_finite_values_and_no_gradient_of_their_own() -> None:
    student = features(6, 4)
    student[2] = 0
    teacher = features(6, 4, seed=1)
    teacher[3] = 0
    student.requires_grad_()
    value = FDALoss(2).double()(student, teacher)
    value.backward()
    assert student.grad is not None
    assert value.isfinite() and student.grad.isfinite().all()
    assert (student.grad[2] == 0).all()


@pytest.mark.parametrize("size", [1e-25, 1e25, 1e37])
def test_huge_and_tiny_rows_do_not_overflow(size: float) -> None:
    student, teacher = features(8, 5, dtype=torch.float32), features(8, 5, 1, torch.float32)
    expected = FDALoss(2)(student, teacher)
    torch.testing.assert_close(FDALoss(2)(student * size, teacher * size), expected)


def test_unit_rows_gradient_is_exact() -> None:
    assert torch.autograd.gradcheck(unit_rows, features(4, 3).requires_grad_())


def test_one_sample_gives_zero_and_stays_in_the_graph() -> None:
    student = features(1, 4).requires_grad_()
    value = FDALoss(2).double()(student, features(1, 4, seed=1))
    value.backward()
    assert float(value) == 0 and student.grad is not None and (student.grad == 0).all()


def test_a_short_batch_clamps_k_and_says_so_once() -> None:
    loss, student, teacher = FDALoss(16), features(5, 3).float(), features(5, 3, 1).float()
    with pytest.warns(UserWarning, match="num_neighbors=16 is clamped to 4 in a batch of 5"):
        value = loss(student, teacher)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        torch.testing.assert_close(loss(student, teacher), value)
        torch.testing.assert_close(FDALoss(4)(student, teacher), value)


def test_a_clamped_default_says_that_it_is_the_default() -> None:
    with pytest.warns(UserWarning, match="num_neighbors=8, the default, is clamped to 7"):
        FDALoss()(features(8, 3).float(), features(8, 3, 1).float())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    student, teacher = features(20, 6).to(dtype), features(20, 6, seed=1).to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = FDALoss(4)(student, teacher)
    assert value.dtype == torch.float32
    expected = FDALoss(4).double()(student.double(), teacher.double())
    torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-6)


def test_nan_is_not_hidden() -> None:
    student = features(6, 4)
    student[0, 0] = torch.nan
    assert FDALoss(2).double()(student, features(6, 4, seed=1)).isnan()


def test_scale_and_bias_are_parameters_only_if_learnable() -> None:
    assert {n for n, _ in FDALoss().named_parameters()} == {"log_scale", "bias"}
    fixed = FDALoss(learnable=False)
    assert not list(fixed.parameters()) and set(fixed.state_dict()) == {"log_scale", "bias"}


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"num_neighbors": 0}, ValueError, "num_neighbors=0 must be at least 1"),
        ({"num_neighbors": 2.5}, TypeError, "num_neighbors=2.5 must be an int"),
        ({"negative_weight": "cosine"}, ValueError, "'one-minus'"),
        ({"init_logit_scale": 0.0}, ValueError, "init_logit_scale=0"),
        ({"init_logit_scale": float("nan")}, ValueError, "init_logit_scale=nan"),
        ({"init_logit_bias": float("inf")}, ValueError, "init_logit_bias=inf"),
    ],
)
def test_bad_options(options: dict[str, object], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        FDALoss(**options)  # type: ignore[arg-type]


def test_bad_batches() -> None:
    loss, good = FDALoss(2), features(6, 4)
    with pytest.raises(ValueError, match="student has 5 rows, teacher has 6"):
        loss(good[:5], good)
    with pytest.raises(ValueError, match=r"student has shape \(6, 4, 1\)"):
        loss(good.unsqueeze(2), good)
    with pytest.raises(TypeError, match="teacher must be a floating-point tensor"):
        loss(good, good.long())


def test_losses_import_without_avalanche() -> None:
    code = (
        "import sys, avalanche_proxyfda.losses, avalanche_proxyfda\n"
        "bad = [m for m in ('avalanche', 'open_clip', 'timm', 'torchvision') if m in sys.modules]\n"
        "sys.exit(f'imported {bad}' if bad else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
