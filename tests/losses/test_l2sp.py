"""L2SPLoss against the loop, at its start, and what it launches."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from avalanche_proxyfda.losses import L2SPLoss
from benchmarks.perf.counting import Operations
from tests.losses.common import features
from tests.reference import l2sp as reference

l2sp = L2SPLoss()


def lists() -> tuple[list[Tensor], list[Tensor]]:
    shapes = ((3, 4), (5, 1), (2, 6))
    weights = [features(*shape, seed=k).requires_grad_() for k, shape in enumerate(shapes)]
    weights.append(features(1, 7, seed=8)[0].clone().requires_grad_())
    return weights, [torch.randn_like(w).detach() for w in weights]


def test_value_and_gradients_equal_the_loop() -> None:
    weights, anchors = lists()
    value, expected = l2sp(weights, anchors), reference.l2sp(weights, anchors)
    torch.testing.assert_close(value, expected, rtol=1e-13, atol=0)
    ours = torch.autograd.grad(3 * value, weights)
    for own, other in zip(ours, torch.autograd.grad(3 * expected, weights), strict=True):
        torch.testing.assert_close(own, other, rtol=1e-13, atol=0)


def test_gradcheck() -> None:
    weights, anchors = lists()
    assert torch.autograd.gradcheck(lambda *w: l2sp(w, anchors), weights)


def test_exactly_zero_at_the_start() -> None:
    weights, _ = lists()
    value = l2sp(weights, [w.detach().clone() for w in weights])
    gradients = torch.autograd.grad(value, weights)
    assert float(value) == 0 and all((g == 0).all() for g in gradients)


def test_order_does_not_matter_and_nan_is_not_hidden() -> None:
    weights, anchors = lists()
    torch.testing.assert_close(l2sp(weights[::-1], anchors[::-1]), l2sp(weights, anchors))
    anchors[1][2, 0] = torch.nan
    assert l2sp(weights, anchors).isnan()


def test_as_many_operations_for_two_hundred_tensors_as_for_two() -> None:
    counts = []
    for number in (2, 200):
        weights = [torch.randn(3).requires_grad_() for _ in range(number)]
        anchors = [torch.randn(3) for _ in range(number)]
        with Operations() as seen:
            value = l2sp(weights, anchors)
            torch.autograd.grad(value, weights)
        counts.append(seen.launches)
    assert counts[0] == counts[1] < 15


@pytest.mark.parametrize("wrong", ["none", "short", "shape"])
def test_bad_lists(wrong: str) -> None:
    weights, anchors = lists()
    cases = {"none": ([], []), "short": (weights, anchors[1:]), "shape": (weights, anchors[::-1])}
    with pytest.raises(ValueError, match="must be equally many"):
        l2sp(*cases[wrong])


def test_half_precision_weights() -> None:
    weights, anchors = lists()
    low = [[t.detach().bfloat16() for t in group] for group in (weights, anchors)]
    expected = reference.l2sp(*[[t.double() for t in group] for group in low])
    given = [w.requires_grad_() for w in low[0]]
    value = l2sp(given, low[1])
    torch.testing.assert_close(value.double(), expected, rtol=1e-2, atol=0)
    value.backward()
    for w, a in zip(given, low[1], strict=True):
        torch.testing.assert_close(w.grad, 2 * (w.detach() - a))


def test_it_has_no_state() -> None:
    assert not l2sp.state_dict()  # checkpoints of L2-SP hold no loss
