"""Selective projection decay against the loops; its ends, and what it reads."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from avalanche_proxyfda.weights import SelectiveDecay
from tests.reference.spd import adam, decayed

SHAPES = ((3, 4), (5,), (), (2, 2, 2))


def drawn(seed: int) -> list[Tensor]:
    source = torch.Generator().manual_seed(seed)
    return [torch.randn(s, generator=source, dtype=torch.float64) for s in SHAPES]


@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0, 3.0])
def test_steps_of_adam_equal_the_loops(weight: float) -> None:
    """Twelve steps with gradients that the weights do not explain: both signs occur."""
    weights, anchors = [nn.Parameter(v) for v in drawn(0)], drawn(1)
    optimizer, decay = torch.optim.Adam(weights, lr=0.3), SelectiveDecay(weight)
    theirs = [w.detach().flatten().tolist() for w in weights]
    past: list[list[list[float]]] = [[] for _ in weights]
    ratios = []
    for step in range(12):
        for w, g in zip(weights, drawn(10 + step), strict=True):
            w.grad = g
        decay.before_step(weights, anchors)
        optimizer.step()
        logged = decay.after_step()
        means = []
        for k, (w, a) in enumerate(zip(weights, anchors, strict=True)):
            assert w.grad is not None
            gradient = w.grad.flatten().tolist()
            past[k].append(gradient)
            stepped = adam(theirs[k], past[k], 0.3, (0.9, 0.999))
            known = a.flatten().tolist()
            theirs[k], ratio = decayed(theirs[k], stepped, known, gradient, weight)
            ours = w.detach().flatten().tolist()
            assert ours == pytest.approx(theirs[k], rel=1e-9, abs=1e-11)
            means.append(ratio)
        ratios += means
        assert float(logged["ratio"]) == pytest.approx(sum(means) / 4)
        assert float(logged["selected"]) == sum(r > 0 for r in means) / 4
    assert 0 < sum(r > 0 for r in ratios) < len(ratios)


def test_with_weight_one_a_selected_tensor_keeps_its_distance() -> None:
    weight, anchor, decay = nn.Parameter(torch.tensor([3.0, 4.0])), torch.zeros(2), SelectiveDecay()
    for gradient, length in (([1.0, 0.0], 5.0), ([-1.0, 0.0], 10.0)):
        weight.data, weight.grad = torch.tensor([3.0, 4.0]), torch.tensor(gradient)
        decay.before_step([weight], [anchor])
        weight.data.mul_(2)
        decay.after_step()
        assert float(weight.detach().norm()) == pytest.approx(length)


def test_a_step_that_comes_nearer_and_one_at_the_anchor_stay_to_the_bit() -> None:
    decay, gradient = SelectiveDecay(2.0), torch.tensor([1.0, 0.0])
    for before, after in (([3.0, 4.0], [1.0, 2.0]), ([0.0, 0.0], [0.0, 0.0])):
        weight = nn.Parameter(torch.tensor(before))
        weight.grad = gradient
        decay.before_step([weight], [torch.zeros(2)])
        weight.data.copy_(torch.tensor(after))
        logged = decay.after_step()
        assert weight.tolist() == after and float(logged["ratio"]) == 0


def test_tensors_without_gradient_are_left_out() -> None:
    weights = [nn.Parameter(torch.ones(2)) for _ in range(2)]
    anchors, decay = [torch.zeros(2), torch.zeros(2)], SelectiveDecay()
    assert decay.after_step() == {}
    decay.before_step(weights, anchors)
    assert decay.after_step() == {}
    weights[1].grad = torch.ones(2)
    decay.before_step(weights, anchors)
    for w in weights:
        w.data.mul_(3)
    assert float(decay.after_step()["selected"]) == 1
    assert weights[0].tolist() == [3, 3] and weights[1].tolist() == pytest.approx([1, 1])
    assert decay.after_step() == {}  # a step is shortened once


def test_it_reads_nothing_from_the_device() -> None:
    """Tensors on meta have no values, so any read (a wait for a GPU) would raise here."""
    weights = [nn.Parameter(torch.randn(3, 4, device="meta")) for _ in range(3)]
    anchors, decay = [w.detach().clone() for w in weights], SelectiveDecay()
    for weight in weights:
        weight.grad = torch.empty_like(weight)
    decay.before_step(weights, anchors)
    assert set(decay.after_step()) == {"ratio", "selected"}


@pytest.mark.parametrize(
    ("weight", "error"), [(-1.0, ValueError), (float("inf"), ValueError), ("1", TypeError)]
)
def test_bad_weights(weight: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="weight="):
        SelectiveDecay(weight)
