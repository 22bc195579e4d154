"""Distances of all pairs: the backward for accelerators against the loops, and its memory."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from avalanche_proxyfda.losses import RKDLoss, distances
from avalanche_proxyfda.losses.distances import pair_distances
from benchmarks.perf.counting import Operations, memory_of
from benchmarks.perf.saved import peak_bytes
from tests.losses.common import features
from tests.reference.rkd import length
from tests.reference.rkd import rkd as reference

MEMORY = 80 * 2**30


@pytest.fixture(params=[1, 3, 7], ids=lambda rows: f"chunk{rows}")
def _chunks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Chunks of the backward of a batch of 7 rows with 4 columns, in float64."""
    size = 8 * 7 * 4 * request.param
    monkeypatch.setattr(distances, "block_bytes", lambda device: size)
    with memory_of(MEMORY):
        yield


def loops(rows: Tensor) -> Tensor:
    """The distances by the letter; the gradient at a distance of 0 is 0."""
    return torch.stack([torch.stack([length(a - b) for b in rows]) for a in rows])


@pytest.mark.usefixtures("_chunks")
def test_values_and_gradients_equal_the_loops() -> None:
    rows, slopes = features(7, 4).requires_grad_(), features(7, 7, 1)
    ours, theirs = pair_distances(rows), loops(rows)
    assert ours.grad_fn is not None and ours.grad_fn.name() == "_PairDistancesBackward"
    torch.testing.assert_close(ours, theirs, rtol=1e-13, atol=1e-14)
    found, expected = (torch.autograd.grad(d, rows, slopes)[0] for d in (ours, theirs))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-13)


@pytest.mark.usefixtures("_chunks")
def test_equal_rows_get_no_gradient_and_nan_is_not_hidden() -> None:
    rows = features(7, 4)
    rows[4], rows[6] = rows[1], rows[2]
    rows.requires_grad_()
    slopes = features(7, 7, 1)
    found, expected = (
        torch.autograd.grad(f(rows), rows, slopes)[0] for f in (pair_distances, loops)
    )
    assert found.isfinite().all()
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-13)
    same = torch.ones(7, 4, dtype=torch.float64, requires_grad=True)
    assert torch.equal(torch.autograd.grad(pair_distances(same).sum(), same)[0], same * 0)
    broken = features(7, 4)
    broken[0, 0] = torch.nan
    broken.requires_grad_()
    assert torch.autograd.grad(pair_distances(broken).sum(), broken)[0].isnan().any()


def test_gradcheck() -> None:
    assert torch.autograd.gradcheck(distances._PairDistances.apply, features(5, 3).requires_grad_())


def test_close_rows_keep_their_digits() -> None:
    """A product of matrices would lose all digits of a gap of 1e-6 in float32."""
    exact = features(6, 4) + 3.0
    exact[1] = exact[0] + 1e-6 * features(1, 4, 2)[0]
    rows = exact.float().requires_grad_()
    exact = rows.detach().double().requires_grad_()
    (found,) = torch.autograd.grad(distances._PairDistances.apply(rows)[0, 1], rows)
    (expected,) = torch.autograd.grad(loops(exact)[0, 1], exact)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-7)


def test_rkd_on_an_accelerator_equals_the_loops() -> None:
    student, teacher = features(6, 4), features(6, 5, 1)
    student[3] = student[1]
    student.requires_grad_()
    with memory_of(MEMORY):
        value = RKDLoss()(student, teacher)
        (ours,) = torch.autograd.grad(value, student)
    expected = reference(student, teacher, 1.0, 2.0)
    torch.testing.assert_close(value, expected, rtol=1e-11, atol=1e-13)
    torch.testing.assert_close(
        ours, torch.autograd.grad(expected, student)[0], rtol=1e-9, atol=1e-12
    )


def test_backward_holds_a_few_matrices_and_one_block() -> None:
    """The backward of cdist on CUDA allocates [B, B, D]: 1 GiB here, and 48 GiB at B = 4096."""
    rows = torch.randn(1024, 256, device="meta", requires_grad=True)
    block = MEMORY // 256
    with memory_of(MEMORY), Operations() as seen:
        peak = peak_bytes(lambda: RKDLoss(1.0, 0.0)(rows, rows.detach()))
    assert block < peak < 1.3 * block + 12 * 4 * 1024**2
    assert "_cdist_backward" not in seen.names
