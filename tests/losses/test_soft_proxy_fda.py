"""SoftProxyFDALoss against the loops: proxies as columns, exact start, the generator."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from avalanche_proxyfda.losses import ProxyFDALoss, SoftProxyFDALoss
from tests.losses.common import features
from tests.reference.soft_fda import ZERO, bregman_of, kl_of, pairs_of, proxy_pairs

KINDS = pytest.mark.parametrize("kind", ["kl", "bregman"])
SIGMOID: dict[str, Any] = {"init_logit_scale": 6.0, "init_logit_bias": -3.0}


def loss_of(kind: str, dim: int, k: int = 2, **options: Any) -> SoftProxyFDALoss:
    source = torch.Generator().manual_seed(k)
    given: dict[str, Any] = {"num_neighbors": k, **SIGMOID, "generator": source, **options}
    return SoftProxyFDALoss(dim, divergence=kind, **given).double()  # type: ignore[arg-type]


def expected(loss: SoftProxyFDALoss, student: Tensor, teacher: Tensor, columns: Any) -> Tensor:
    layers = {n: p.detach() for n, p in loss.generator.named_parameters()}
    scale, bias = float(loss.log_scale.exp()), float(loss.bias)
    count, k, total = len(student), loss.num_neighbors, ZERO
    for i in range(count):
        proxies = proxy_pairs(i, student, teacher, layers, k, loss.proxy_ratio)
        pairs = pairs_of(i, student, teacher, columns, proxies)
        if loss.divergence == "kl":
            total = total + kl_of(pairs, loss.scale) / count
        else:
            total = total + bregman_of(pairs, count - 1, k, scale, bias, "similarity") / count
    return total


@KINDS
@pytest.mark.parametrize("ratio", [0.4, 1.0])
@pytest.mark.parametrize("count", [0, 3])
def test_alignment_equals_the_loops(kind: str, ratio: float, count: int) -> None:
    student, teacher = features(6, 4).requires_grad_(), features(6, 4, 1)
    columns = features(count, 4, 5) if count else None
    loss = loss_of(kind, 4, proxy_ratio=ratio)
    value = loss(student, teacher, columns).alignment
    other = expected(loss, student, teacher, [] if columns is None else list(columns))
    torch.testing.assert_close(value, other, rtol=1e-9, atol=1e-12)
    ours, theirs = (torch.autograd.grad(v, student)[0] for v in (value, other))
    torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-11)
    assert value > 0


def test_the_generator_s_term_is_that_of_proxy_fda() -> None:
    student, teacher = features(7, 4).requires_grad_(), features(7, 5, 1)
    loss = loss_of("kl", 4)
    other = ProxyFDALoss(4, 2, learnable=False, **SIGMOID).double()
    other.load_state_dict(loss.state_dict())
    terms, theirs = loss(student, teacher), other(student, teacher)
    torch.testing.assert_close(terms.generator, theirs.generator)
    parameters = list(loss.generator.parameters())
    assert not torch.autograd.grad(terms.generator, student, allow_unused=True, retain_graph=True)[
        0
    ]
    slopes = torch.autograd.grad(terms.generator, parameters, retain_graph=True)
    assert all(slope.any() for slope in slopes[:2])
    reached = torch.autograd.grad(terms.alignment, parameters, allow_unused=True)
    assert all(slope is None or not slope.any() for slope in reached)  # weights are constants


@KINDS
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_exactly_zero_at_the_start(kind: str, dtype: torch.dtype) -> None:
    student, columns = features(20, 6).to(dtype).requires_grad_(), features(3, 6, 5)
    for chunk_size in ("auto", 7):
        loss = loss_of(kind, 6, 4, chunk_size=chunk_size)
        loss.generator.float()
        value = loss(student, student.detach().clone(), columns).alignment
        (gradient,) = torch.autograd.grad(value, student)
        assert float(value.detach()) == 0 and (gradient == 0).all()


@KINDS
def test_chunks_and_order_change_nothing(kind: str) -> None:
    student, teacher = features(9, 4).requires_grad_(), features(9, 4, 1)
    order, columns = torch.randperm(9), features(2, 4, 5)
    terms = loss_of(kind, 4)(student, teacher, columns)
    slope = torch.autograd.grad(terms.alignment, student)[0]
    for size in (1, 4):
        again = loss_of(kind, 4, chunk_size=size)(student, teacher, columns)
        torch.testing.assert_close(tuple(again), tuple(terms))
        torch.testing.assert_close(torch.autograd.grad(again.alignment, student)[0], slope)
    other = loss_of(kind, 4)(student[order], teacher[order], columns)
    torch.testing.assert_close(tuple(other), tuple(terms))


@KINDS
def test_small_batches_and_no_proxies(kind: str) -> None:
    for count in (0, 1):
        one = features(count, 4).requires_grad_()
        terms = loss_of(kind, 4, 1)(one, features(count, 4, 1))
        terms.alignment.backward()
        assert float(terms.alignment.detach()) == 0 == float(terms.generator)
    two = loss_of(kind, 4, 1)(features(2, 4), features(2, 4, 1))
    assert two.alignment.isfinite() and two.generator.isfinite()
    none = loss_of(kind, 4, proxy_ratio=0)(features(5, 4), features(5, 4, 1))
    assert none.alignment > 0 and none.generator == 0


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="scale=0 makes"):
        SoftProxyFDALoss(4, scale=0)
    with pytest.raises(ValueError, match="student has D=5, but the loss was built with dim=4"):
        loss_of("kl", 4)(features(3, 5), features(3, 5))
    with pytest.raises(ValueError, match=r"columns has shape \(2, 3\)"):
        loss_of("kl", 4)(features(3, 4), features(3, 4), features(2, 3))
    with pytest.warns(UserWarning, match="num_neighbors=8 is clamped|num_neighbors=8, the default"):
        loss_of("kl", 4, 8)(features(3, 4), features(3, 4))
