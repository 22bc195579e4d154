"""GradientProjection against the recursion in plain numbers, and what it promises."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from avalanche_proxyfda.weights import GradientProjection
from avalanche_proxyfda.weights.digrap import project
from benchmarks.perf.counting import Operations
from tests.losses.common import features
from tests.reference.digrap import DiGraP

SHAPES = ((3, 4), (6,), (1,), (2, 2, 3))
OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.05),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9),
    "adam": lambda p: torch.optim.Adam(p, lr=0.02),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.02, weight_decay=0.1),
}


def parameters(seed: int = 0) -> list[nn.Parameter]:
    count = [torch.Size(shape).numel() for shape in SHAPES]
    return [
        nn.Parameter(features(1, n, seed + k).view(shape))
        for k, (n, shape) in enumerate(zip(count, SHAPES, strict=True))
    ]


def gradients(step: int) -> list[Tensor]:
    """A drift away from the start, and noise: conflicts come and go."""
    found = [features(1, p.numel(), 100 + 7 * step + k) for k, p in enumerate(parameters())]
    return [(g + 0.8).view(s) for g, s in zip(found, SHAPES, strict=True)]


@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.parametrize("mu", [0.01, 0.5])
def test_fifty_steps_equal_the_recursion(kind: str, mu: float) -> None:
    ours, theirs = parameters(), parameters()
    anchors = [p.detach().clone() for p in ours]
    first, second = OPTIMIZERS[kind](ours), OPTIMIZERS[kind](theirs)
    projection, loops = GradientProjection(mu), [DiGraP(mu) for _ in SHAPES]
    seen: list[float] = []
    for step in range(50):
        for p, q, g in zip(ours, theirs, gradients(step), strict=True):
            p.grad, q.grad = g.clone(), g.clone()
        projection.step(ours, anchors)
        for loop, q, a in zip(loops, theirs, anchors, strict=True):
            assert q.grad is not None
            changed = loop.step(
                q.flatten().tolist(), a.flatten().tolist(), q.grad.flatten().tolist()
            )
            q.grad = torch.tensor(changed, dtype=torch.float64).view(q.shape)
        assert projection.omega is not None
        seen += projection.omega.tolist()
        for p, q in zip(ours, theirs, strict=True):
            torch.testing.assert_close(p.grad, q.grad, rtol=1e-9, atol=1e-12)
        first.step()
        second.step()
    assert [x.omega for x in loops] == pytest.approx(projection.omega.tolist(), abs=1e-9)
    assert 0 < max(seen) <= 1  # it did act


def test_at_full_strength_nothing_of_an_sgd_step_is_left_along_delta() -> None:
    weights, anchors = parameters(), parameters(20)
    deltas = [(p - a).detach() for p, a in zip(weights, anchors, strict=True)]
    signs = [-1.0, -1.0, -1.0, 1.0]  # the last gradient leads home, and stays as it is
    for p, d, sign in zip(weights, deltas, signs, strict=True):
        p.grad = sign * d + 0.3 * features(1, p.numel(), 5).view(p.shape)
    before = [p.detach().clone() for p in weights]
    home = weights[3].grad.clone()
    _, conflict = project([p.grad for p in weights], deltas, torch.ones(4, dtype=torch.float64))
    torch.optim.SGD(weights, lr=0.1).step()
    moved = [((p - b) * d).sum() for p, b, d in zip(weights, before, deltas, strict=True)]
    assert conflict.tolist() == [True, True, True, False]
    assert max(abs(float(m)) for m in moved[:3]) < 1e-14
    assert torch.equal(weights[3].grad, home)


@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e-6])
def test_the_projection_does_not_depend_on_the_length_of_delta(scale: float) -> None:
    delta = features(1, 12, 1).view(3, 4)
    gradient = features(1, 12, 5).view(3, 4) - delta
    _, conflict = project([gradient], [scale * delta], torch.ones(1, dtype=torch.float64))
    left = (gradient * delta).sum() / (gradient.norm() * delta.norm())
    assert bool(conflict)
    assert abs(float(left)) < 1e-9


@pytest.mark.parametrize("delta", [0.0, 1e-30], ids=["none", "its square underflows"])
def test_without_a_difference_there_is_no_projection(delta: float) -> None:
    gradient = torch.tensor([-1.0, 0.5, 0.0])
    found = gradient.clone()
    coefficient, conflict = project([found], [torch.full((3,), delta)], torch.ones(1))
    assert torch.equal(found, gradient) and not conflict and coefficient.isfinite()
    weight, projection = nn.Parameter(torch.zeros(3)), GradientProjection(10.0)
    for _ in range(4):  # the weight never moves
        weight.grad = gradient.clone()
        terms = projection.step([weight], [torch.full((3,), -delta)])
        assert torch.equal(weight.grad, gradient)
        assert terms["omega"] == 0 and terms["conflict"] == 0


@pytest.mark.parametrize(("turns_at", "expected"), [(3, 0.63881), (4, 0.58112)])
def test_adam_counts_the_steps_of_training(turns_at: int, expected: float) -> None:
    """The first cosine that is not 0 comes in step 3 or later; t = 1 would give a step of 1."""
    weight, projection = nn.Parameter(torch.zeros(1, dtype=torch.float64)), GradientProjection(0.5)
    anchor = [torch.zeros(1, dtype=torch.float64)]
    for step in range(1, turns_at + 1):
        weight.grad = torch.full_like(weight, 1.0 if step == turns_at else -1.0)
        projection.step([weight], anchor)
        with torch.no_grad():
            weight += 0.1 if step >= turns_at - 2 else 0.0
    assert projection.omega is not None
    assert float(projection.omega) == pytest.approx(0.5 * expected, abs=1e-5)


def test_another_list_of_weights_carries_the_state_of_the_known_ones() -> None:
    def stepped(weights: list[nn.Parameter], step: int, moved: GradientProjection) -> None:
        for k, p in enumerate(weights):
            p.grad = features(1, p.numel(), 31 * step + k).view(p.shape) - 0.8
        moved.step(weights, [torch.zeros_like(p) for p in weights])
        torch.optim.SGD(weights, lr=0.1).step()

    whole, part = parameters(), parameters()
    one, other = GradientProjection(2.0), GradientProjection(2.0)
    for step in range(6):
        stepped(whole, step, one)
        stepped(part, step, other)
    new = nn.Parameter(features(1, 5, 8))
    other.carry([part[3], new, part[0]], [3, None, 0])
    assert one.omega is not None and other.omega is not None
    assert other.omega.tolist() == [one.omega[3], 0.0, one.omega[0]] and one.omega.max() > 0
    for step in range(6, 12):
        for p, q in ((part[3], whole[3]), (part[0], whole[0]), (new, whole[1])):
            p.grad = q.grad = None
            shared = features(1, p.numel(), 57 * step).view(p.shape) - 0.5
            p.grad = shared.clone()
            if p is not new:
                q.grad = shared.clone()
        whole[2].grad = whole[1].grad = None
        one.step(whole, [torch.zeros_like(p) for p in whole])
        other.step([part[3], new, part[0]], [torch.zeros_like(p) for p in (part[3], new, part[0])])
        for p, q in ((part[3], whole[3]), (part[0], whole[0])):
            assert p.grad is not None and q.grad is not None and torch.equal(p.grad, q.grad)
        torch.optim.SGD([part[3], new, part[0]], lr=0.1).step()
        torch.optim.SGD([whole[3], whole[0]], lr=0.1).step()
        assert torch.equal(other.omega[[0, 2]], one.omega[[3, 0]])
    empty = GradientProjection()
    empty.carry(parameters(), [None] * 4)
    assert empty.omega is None


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_mu_zero_is_the_plain_optimizer_bit_for_bit(kind: str) -> None:
    ours, plain = ([nn.Parameter(p.float()) for p in parameters()] for _ in range(2))
    anchors = [p.detach().clone() for p in ours]
    projection, first, second = (
        GradientProjection(0),
        OPTIMIZERS[kind](ours),
        OPTIMIZERS[kind](plain),
    )
    for step in range(20):
        for p, q, g in zip(ours, plain, gradients(step), strict=True):
            p.grad, q.grad = g.float(), g.float()
        projection.step(ours, anchors)
        first.step()
        second.step()
    assert all(torch.equal(p, q) for p, q in zip(ours, plain, strict=True))


def test_a_tensor_without_gradient_takes_no_part() -> None:
    weights, anchors = parameters(), parameters(20)
    projection, alone = GradientProjection(0.5), GradientProjection(0.5)
    for step in range(6):
        for p, g in zip(weights, gradients(step), strict=True):
            p.grad = g
        if step % 2:
            weights[1].grad = None
        before = None if projection.omega is None else projection.omega.clone()
        rest = [weights[k] for k in (0, 2, 3)]
        twins = [nn.Parameter(p.detach().clone()) for p in rest]
        for twin, p in zip(twins, rest, strict=True):
            twin.grad = p.grad.clone()
        projection.step(weights, anchors)
        alone.step(twins, [anchors[k] for k in (0, 2, 3)])
        assert projection.omega is not None
        assert alone.omega is not None
        if step % 2:
            assert before is not None and projection.omega[1] == before[1]
            assert weights[1].grad is None
        torch.testing.assert_close(projection.omega[[0, 2, 3]], alone.omega)
    for p in weights:
        p.grad = None
    assert projection.step(weights, anchors) == {}


def test_state_goes_on_where_it_was() -> None:
    def run(stop: int | None) -> list[nn.Parameter]:
        weights = parameters()
        anchors = [p.detach().clone() for p in weights]
        optimizer, projection = OPTIMIZERS["sgd"](weights), GradientProjection(0.3)
        for step in range(12):
            if step == stop:
                state = projection.state_dict()
                projection = GradientProjection(0.3)
                projection.load_state_dict(state, torch.device("cpu"))
            for p, g in zip(weights, gradients(step), strict=True):
                p.grad = g
            projection.step(weights, anchors)
            optimizer.step()
        return weights

    for stop in (0, 1, 7):
        for p, q in zip(run(None), run(stop), strict=True):
            assert torch.equal(p, q)


def test_as_many_operations_for_two_hundred_tensors_as_for_two() -> None:
    counts: list[Any] = []
    for number in (2, 200):
        weights = [nn.Parameter(torch.randn(3)) for _ in range(number)]
        anchors, projection = [torch.randn(3) for _ in range(number)], GradientProjection()
        for _ in range(2):
            for w in weights:
                w.grad = torch.randn(3)
            with Operations() as seen:
                projection.step(weights, anchors)
        counts.append(seen.launches)
    assert counts[0] == counts[1] < 80


def test_bad_mu() -> None:
    with pytest.raises(ValueError, match="mu=-1"):
        GradientProjection(-1)
