"""SoftFDALoss against the loops, its exact start, invariances, edges and memory."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor

from avalanche_proxyfda.losses import FDALoss, PKTLoss, SoftFDALoss
from avalanche_proxyfda.losses.divergences import kl_divergence
from benchmarks.perf.saved import saved_bytes
from tests.losses.common import features, rotation
from tests.reference.soft_fda import soft_bregman, soft_kl

BREGMAN: dict[str, Any] = {"num_neighbors": 2, "init_logit_scale": 6.0, "init_logit_bias": -3.0}
KINDS = pytest.mark.parametrize("kind", ["kl", "bregman"])
COLUMNS = pytest.mark.parametrize("count", [0, 1, 4])


def loss_of(kind: str, **options: Any) -> SoftFDALoss:
    given = {**BREGMAN, **options} if kind == "bregman" else options
    return SoftFDALoss(divergence=kind, **given).double()  # type: ignore[arg-type]


def further(count: int, dim: int) -> Tensor | None:
    return features(count, dim, 5) if count else None


@pytest.mark.parametrize(("batch", "dim"), [(6, 4), (2, 3), (4, 7)])
@COLUMNS
@pytest.mark.parametrize("scale", [10.0, 0.5])
def test_kl_equals_the_loops(batch: int, dim: int, count: int, scale: float) -> None:
    student, teacher = features(batch, dim).requires_grad_(), features(batch, dim, 1)
    columns = further(count, dim)
    value = SoftFDALoss(scale)(student, teacher, columns)
    expected = soft_kl(student, teacher, scale, () if columns is None else list(columns))
    torch.testing.assert_close(value, expected, rtol=1e-11, atol=1e-13)
    assert value > 0 or batch + count == 2  # a distribution over one column is 1
    ours, theirs = (torch.autograd.grad(v, student)[0] for v in (value, expected))
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("batch", "k"), [(6, 2), (2, 2), (5, 4)])
@COLUMNS
@pytest.mark.parametrize("mode", ["similarity", "clamped"])
def test_bregman_equals_the_loops(batch: int, k: int, count: int, mode: Any) -> None:
    student, teacher = features(batch, 4).requires_grad_(), features(batch, 4, 1)
    columns = further(count, 4)
    loss = loss_of("bregman", num_neighbors=k, negative_weight=mode)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "num_neighbors=2 is clamped")
        value = loss(student, teacher, columns)
    given = () if columns is None else list(columns)
    sigmoid = float(loss.log_scale.exp()), float(loss.bias)
    expected = soft_bregman(student, teacher, min(k, batch - 1), *sigmoid, mode, given)
    torch.testing.assert_close(value, expected, rtol=1e-9, atol=1e-13)
    assert value > 0
    ours, theirs = (torch.autograd.grad(v, student)[0] for v in (value, expected))
    torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-12)


def test_bregman_is_fda_minus_its_expansion_at_the_teacher() -> None:
    """The slope differs from FDA's by FDA's slope at the teacher, for rows of one length."""
    student, teacher = (torch.nn.functional.normalize(features(6, 4, k)) for k in (0, 1))
    fda = FDALoss(2, init_logit_scale=6.0, init_logit_bias=-3.0, learnable=False).double()
    cosines = [(rows @ rows.T).requires_grad_() for rows in (student, teacher)]
    (at_teacher,) = torch.autograd.grad(_fda_of(fda, cosines[1], teacher), cosines[1])
    change = ((cosines[0] - cosines[1]) * at_teacher).sum()
    expected = _fda_of(fda, cosines[0], teacher) - _fda_of(fda, cosines[1], teacher) - change
    torch.testing.assert_close(loss_of("bregman")(student, teacher), expected.detach())


def _fda_of(loss: FDALoss, cosine: Tensor, teacher: Tensor) -> Tensor:
    """FDA as a function of the student's cosines."""
    known = teacher @ teacher.T
    total = torch.zeros((), dtype=torch.float64)
    for i in range(len(known)):
        order = sorted((j for j in range(len(known)) if j != i), key=lambda j: -float(known[i, j]))
        for rank, j in enumerate(order):
            weight = known[i, j] if rank < loss.num_neighbors else -known[i, j]
            total = total + loss.sigmoid_loss(cosine[i, j], weight)
    return total / (len(known) * (len(known) - 1))


def test_kl_without_columns_is_pkt_with_a_softmax_kernel() -> None:
    student, teacher = features(9, 5).requires_grad_(), features(9, 4, 1)
    values = [loss(student, teacher) for loss in (SoftFDALoss(7.0), PKTLoss(7.0))]
    torch.testing.assert_close(*values)
    slopes = [torch.autograd.grad(value, student)[0] for value in values]
    torch.testing.assert_close(*slopes)


@KINDS
@COLUMNS
def test_gradcheck(kind: str, count: int) -> None:
    loss, teacher, columns = loss_of(kind), features(5, 4, 1), further(count, 4)
    student = features(5, 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda s: loss(s, teacher, columns), student)


@KINDS
@COLUMNS
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_exactly_zero_at_the_start(kind: str, count: int, dtype: torch.dtype) -> None:
    """The plain gradient of a softmax would be rounding error here."""
    student, columns = features(33, 6).to(dtype).requires_grad_(), further(count, 6)
    for chunk_size in ("auto", 7):
        loss = loss_of(kind, chunk_size=chunk_size)
        value = loss(student, student.detach().clone(), columns)
        (gradient,) = torch.autograd.grad(value, student)
        assert float(value.detach()) == 0 and (gradient == 0).all()
        moved = loss((student + 0.5).detach(), student.detach(), columns)
        assert moved > 0


@KINDS
@COLUMNS
def test_invariances(kind: str, count: int) -> None:
    loss, columns = loss_of(kind), further(count, 4)
    student, teacher = features(7, 4), features(7, 4, 1)
    value, order = loss(student, teacher, columns), torch.randperm(7)
    sizes = torch.arange(1, 8, dtype=torch.float64)[:, None]
    for changed in (student * 40, student * sizes):
        torch.testing.assert_close(loss(changed, teacher, columns), value)
    torch.testing.assert_close(loss(student, teacher * sizes, columns), value)
    torch.testing.assert_close(loss(student[order], teacher[order], columns), value)
    turned = loss(student @ rotation(4), teacher, columns)
    assert torch.isclose(turned, value) == (count == 0)  # further columns fix the space
    if columns is None:
        torch.testing.assert_close(loss(student, teacher @ rotation(4)), value)
    else:
        twins = loss(student, teacher, columns.flip(0) * 3)
        torch.testing.assert_close(twins, value)
        again = [rows @ rotation(4) for rows in (student, teacher, columns)]
        torch.testing.assert_close(loss(*again), value)
    assert not torch.isclose(loss(student[order], teacher, columns), value)


@KINDS
@pytest.mark.parametrize("count", [0, 3])
def test_chunks_change_nothing(kind: str, count: int) -> None:
    student, teacher, columns = features(11, 4).requires_grad_(), features(11, 4, 1), further(3, 4)
    results = []
    for size in ("auto", 1, 4, 11):
        value = loss_of(kind, chunk_size=size)(student, teacher, columns if count else None)
        results.append((value, torch.autograd.grad(value, student)[0]))
    for result in results[1:]:
        torch.testing.assert_close(result, results[0])


@KINDS
def test_duplicates_zero_rows_and_equal_rows_are_finite(kind: str) -> None:
    student, teacher = features(5, 3), features(5, 3, 1)
    student[3], teacher[2] = student[1], 0
    student[4] = 0
    for rows in (student, torch.ones(5, 3, dtype=torch.float64), 0 * student):
        own = rows.clone().requires_grad_()
        value = loss_of(kind)(own, teacher, further(2, 3))
        (slope,) = torch.autograd.grad(value, own)
        assert value.isfinite() and slope.isfinite().all() and value > 0
    student[0, 0] = torch.nan
    assert loss_of(kind)(student, teacher).isnan()


@KINDS
@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_samples_give_an_exact_zero(kind: str, count: int) -> None:
    one = features(count, 4).requires_grad_()
    value = loss_of(kind)(one, features(count, 4, 1), further(3, 4))
    value.backward()
    assert float(value.detach()) == 0 and one.grad is not None and (one.grad == 0).all()


def test_entries_of_the_bregman_form_are_not_negative() -> None:
    """In float32 the first-order expansion rounds; a student beside the teacher shows it."""
    teacher = features(40, 8).float()
    loss = SoftFDALoss(divergence="bregman", num_neighbors=8)
    for step in (1e-6, 1e-4, 1e-2):
        assert loss(teacher + step * features(40, 8, 1).float(), teacher) >= 0


@KINDS
def test_bytes_kept_for_backward(kind: str) -> None:
    kept = []
    for batch, size in ((64, "auto"), (512, 64), (1024, 64)):
        student = features(batch, 128).float().requires_grad_()
        teacher, columns = features(batch, 128, 1).float(), features(256, 128, 2).float()
        loss = loss_of(kind, chunk_size=size).float()
        given = (student, teacher, columns)
        kept.append(saved_bytes(lambda g=given, f=loss: f(*g), given))
    assert kept[0] < 6 * 64 * 320 * 4 + 8 * 320 * 128 * 4
    assert kept[2] < 2.1 * kept[1] < 2.1 * 8 * 768 * 128 * 4  # in chunks: O((B + N) D)


@KINDS
def test_half_precision_is_computed_in_float32(kind: str) -> None:
    loss = loss_of(kind).float()
    student, teacher = features(9, 6).bfloat16(), features(9, 6, 1).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(student, teacher)
    assert value.dtype == torch.float32
    expected = loss.double()(student.double(), teacher.double())
    torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-6)


def test_the_fit_of_the_bregman_form_is_fdas() -> None:
    teacher = features(12, 4) + 1
    soft, fda = loss_of("bregman"), FDALoss(2).double()
    assert soft.fit(teacher) and fda.fit(teacher)
    assert torch.equal(soft.log_scale, fda.log_scale) and torch.equal(soft.bias, fda.bias)
    assert list(soft.parameters()) == []


def test_left_out_entries_of_a_divergence_have_no_slope() -> None:
    student, teacher = features(3, 5).requires_grad_(), features(3, 5, 1)
    left_out = torch.eye(3, 5, dtype=torch.bool)
    value = kl_divergence(student, teacher, left_out)
    (slope,) = torch.autograd.grad(value, student)
    assert (slope[left_out] == 0).all() and (slope[~left_out] != 0).all()
    kept = [rows[~left_out].view(3, 4) for rows in (student, teacher)]
    torch.testing.assert_close(value, kl_divergence(*kept))


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"scale": 0}, ValueError, "scale=0 makes all distributions uniform"),
        ({"scale": -1.0}, ValueError, "scale=-1.0 must be finite and not negative"),
        ({"scale": "10"}, TypeError, "scale='10' must be a number"),
        ({"divergence": "js"}, ValueError, "divergence='js' is unknown"),
        ({"divergence": "bregman", "scale": 3}, ValueError, "scale=3 is of the softmax"),
        ({"init_logit_scale": 0}, ValueError, "init_logit_scale=0 must be positive"),
    ],
)
def test_bad_options(options: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        SoftFDALoss(**options)


@pytest.mark.parametrize(
    ("teacher", "columns", "error", "words"),
    [
        (features(2, 4), None, ValueError, "student has 3 rows, teacher has 2"),
        (
            features(3, 4),
            features(2, 5),
            ValueError,
            r"columns has shape \(2, 5\); expected \[M, 4",
        ),
        (features(3, 4), torch.ones(4), ValueError, r"columns has shape \(4,\)"),
        (features(3, 4), torch.ones(2, 4).long(), TypeError, "columns must be a floating-point"),
        (features(3, 5), features(2, 4), ValueError, "teacher has 5: both must have the same"),
    ],
)
def test_bad_input(teacher: Any, columns: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        SoftFDALoss()(features(3, 4), teacher, columns)
