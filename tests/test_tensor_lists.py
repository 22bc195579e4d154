"""Norms and scalar products of lists of tensors, up to the size of a large layer."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from avalanche_proxyfda import L2SPLoss
from avalanche_proxyfda._tensors import dots, norms
from avalanche_proxyfda.weights import SelectiveDecay
from avalanche_proxyfda.weights.digrap import project
from tests.losses.common import features

LARGE = 4096, 1024  # more entries than a layer of ViT-B/16 has


def pair(dtype: torch.dtype) -> tuple[list[Tensor], list[Tensor]]:
    """Two lists of a small matrix, a row and a scalar."""
    lists = [[features(300, 300, s), features(7, 3, s)[0], features(1, 1, s)[0, 0]] for s in (0, 1)]
    left, right = ([t.to(dtype) for t in tensors] for tensors in lists)
    return left, right


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_small_tensors_of_every_dtype(dtype: torch.dtype) -> None:
    left, right = pair(dtype)
    products = [a.double() * b.double() for a, b in zip(left, right, strict=True)]
    error = 1e-12 if dtype == torch.float64 else 1e-5
    for found, product in zip(dots(left, right).tolist(), products, strict=True):
        assert abs(found - float(product.sum())) <= error * float(product.abs().sum())
    expected = [float(t.double().square().sum().sqrt()) for t in left]
    assert norms(left).tolist() == pytest.approx(expected, rel=error)
    assert norms(left).dtype == (dtype if dtype == torch.float64 else torch.float32)


@pytest.fixture(scope="module")
def large() -> tuple[Tensor, Tensor]:
    """A gradient and a difference that are nearly orthogonal, float32."""
    source = torch.Generator().manual_seed(3)
    gradient, difference = (torch.randn(LARGE, generator=source) for _ in range(2))
    wanted = 5e-5 * difference.double().square().sum()  # a cosine of 5e-5
    along = (gradient.double() * difference.double()).sum() - wanted
    gradient -= (along / difference.double().square().sum()).float() * difference
    return gradient, difference


def cosine(one: Tensor, other: Tensor) -> float:
    """The cosine of two tensors in float64."""
    a, b = one.double().flatten(), other.double().flatten()
    return float(a @ b / (a.norm() * b.norm()))


def test_a_large_tensor_keeps_its_digits(large: tuple[Tensor, Tensor]) -> None:
    gradient, difference = large
    size = float(difference.double().square().sum().sqrt())
    assert float(norms([difference])) == pytest.approx(size, rel=1e-7)
    (found,) = (dots([gradient], [difference]) / size**2).tolist()
    assert found == pytest.approx(5e-5, abs=1e-7)
    loss = L2SPLoss()([difference], [torch.zeros(LARGE)])
    assert float(loss) == pytest.approx(size**2, rel=1e-6)


def test_a_large_gradient_that_leads_home_stays(large: tuple[Tensor, Tensor]) -> None:
    gradient, difference = (t.clone() for t in large)
    _, conflict = project([gradient], [difference], torch.ones(1))
    assert not conflict.any() and torch.equal(gradient, large[0])


def test_a_large_gradient_that_leads_away_keeps_no_part_along(large: tuple[Tensor, Tensor]) -> None:
    gradient, difference = -large[0], large[1]
    assert cosine(gradient, difference) == pytest.approx(-5e-5, abs=1e-7)
    _, conflict = project([gradient], [difference], torch.ones(1))
    assert conflict.all() and abs(cosine(gradient, difference)) < 1e-7


def test_the_decay_selects_a_large_tensor_by_its_true_direction(
    large: tuple[Tensor, Tensor],
) -> None:
    gradient, difference = large
    selected = []
    for sign in (1, -1):
        weight = nn.Parameter(difference.clone())
        weight.grad = sign * gradient
        decay = SelectiveDecay(1.0)
        decay.before_step([weight], [torch.zeros(LARGE)])
        weight.data.mul_(1.001)
        selected.append(float(decay.after_step()["selected"]))
        grown = float(weight.detach().double().norm() / difference.double().norm())
        assert grown == pytest.approx(1.0 if sign == 1 else 1.001, abs=1e-6)
    assert selected == [1.0, 0.0]
