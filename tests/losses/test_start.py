"""The fitted start of FDA's sigmoid, against a general minimiser."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor

from avalanche_proxyfda.losses import FDALoss, NeighborGraph
from avalanche_proxyfda.losses.graph import edge_weight
from avalanche_proxyfda.losses.start import fit_centred, fit_sigmoid
from tests.losses.common import features
from tests.losses.test_fda import MODES
from tests.reference import fda as reference


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("shift", "k"), [(1.5, 3), (2.0, 3), (2.0, 6)])
def test_the_fit_is_the_minimiser_of_the_loss_on_the_teacher(
    mode: str, shift: float, k: int
) -> None:
    teacher = features(14, 5) + shift  # a shift narrows the cone of the cosines
    loss = FDALoss(k, negative_weight=mode).double()  # type: ignore[arg-type]
    assert loss.fit(teacher)

    pairs = [(i, j) for i in range(14) for j in range(14) if i != j]
    near = [reference.ranked(teacher, i)[:k] for i in range(14)]
    cosine = [reference.cosine(teacher[i], teacher[j]) for i, j in pairs]
    weight = [
        float(reference.weight(c, j in near[i], mode))
        for c, (i, j) in zip(cosine, pairs, strict=True)
    ]
    c, w = np.array([float(value) for value in cosine]), np.array(weight)

    def value(point: Any) -> float:
        scale, bias = (float(number) for number in point)
        return float(np.log1p(np.exp(-w * (c * scale + bias))).mean())

    scale, bias = (torch.tensor(number, dtype=torch.float64) for number in (3.0, -2.0))
    whole = float(reference.fda(teacher, teacher, k, scale, bias, mode))
    assert value((3.0, -2.0)) == pytest.approx(whole, rel=1e-12)  # the pairs are those of Eq. 2
    fitted = [float(loss.log_scale.detach().exp()), float(loss.bias.detach())]
    best = minimize(value, [1.0, 0.0], method="Nelder-Mead", options={"fatol": 1e-12})
    assert value(fitted) <= best.fun + 1e-10
    torch.testing.assert_close(
        torch.tensor(fitted), torch.tensor(best.x).float(), rtol=1e-3, atol=1e-3
    )


def test_the_fit_does_not_depend_on_where_scale_and_bias_were() -> None:
    teacher = features(12, 5) + 1.0
    one, two = FDALoss(3), FDALoss(3, init_logit_scale=2.0, init_logit_bias=1.0)
    assert one.fit(teacher) and two.fit(teacher.float())
    torch.testing.assert_close(one.state_dict(), two.state_dict(), rtol=1e-5, atol=1e-5)
    first = one.state_dict()["bias"].clone()
    assert one.fit(teacher) and torch.equal(one.bias, first)  # deterministic


def test_the_fit_balances_pull_and_push() -> None:
    """At the fit, the gradient by scale and bias is zero where the student is the teacher."""
    teacher = features(16, 6) + 1.0
    loss = FDALoss(4).double()
    loss.fit(teacher)
    slopes = torch.autograd.grad(loss(teacher, teacher), [loss.log_scale, loss.bias])
    assert all(abs(float(slope)) < 1e-9 for slope in slopes)
    begun = FDALoss(4).double()
    assert abs(float(torch.autograd.grad(begun(teacher, teacher), begun.bias)[0])) > 0.01


@pytest.mark.parametrize(
    "teacher",
    [
        torch.ones(6, 3),  # all cosines are equal
        torch.eye(6),
        torch.eye(2).repeat_interleave(3, dim=0),  # K = 2 separates neighbours from others
        torch.tensor([[1.0, 0.0], [0.0, 1.0], [torch.nan, 1.0]]),
    ],
)
def test_a_degenerate_graph_keeps_the_start_and_warns_once(teacher: Tensor) -> None:
    loss = FDALoss(2)
    with pytest.warns(UserWarning, match="no scale and bias centre the sigmoid"):
        assert not loss.fit(teacher)
    assert float(loss.log_scale.detach()) == pytest.approx(math.log(10))
    assert float(loss.bias.detach()) == -10
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not loss.fit(teacher)


def test_constant_features_are_named_with_their_remedy() -> None:
    alike = torch.ones(6, 3) + 1e-3 * features(6, 3).float()
    with pytest.warns(UserWarning, match=r"features are alike .* above 0.9999.*evaluation mode"):
        assert not FDALoss(2).fit(alike)
    undefined = torch.tensor([[1.0, 0.0], [0.0, 1.0], [torch.nan, 1.0]])
    for cause, teacher in (
        ("all cosines are equal", torch.eye(6)),
        ("separate neighbours from others", torch.eye(2).repeat_interleave(3, dim=0)),
        ("a cosine is not finite", undefined),
    ):
        with pytest.warns(UserWarning, match=f"{cause}.*training continues with them"):
            assert not FDALoss(2).fit(teacher)


def test_unit_weights_stand_in_where_non_neighbours_attract() -> None:
    """With the paper's weights on wide cosines, the loss is least at a scale below zero."""
    teacher = features(14, 5)
    graph = NeighborGraph.of(teacher, 3)
    pairs, neighbor = ~graph.itself, graph.is_neighbor()
    letter = edge_weight(graph.similarity, neighbor, "similarity")
    assert fit_sigmoid(graph.similarity[pairs], letter[pairs]) is None
    loss, unit = FDALoss(3).double(), FDALoss(3, negative_weight="unit").double()
    assert loss.fit(teacher) and unit.fit(teacher)
    assert torch.equal(loss.bias, unit.bias) and torch.equal(loss.log_scale, unit.log_scale)
    clamped = FDALoss(3, negative_weight="clamped").double()
    assert clamped.fit(teacher) and not torch.allclose(clamped.bias, unit.bias)


def test_a_fit_outside_of_the_graphs_cosines_is_not_used() -> None:
    cosine = torch.tensor([0.9, 0.8, 0.3, 0.1, 0.2])
    neighbor = torch.tensor([True, True, False, False, False])
    assert fit_centred(cosine, neighbor, torch.where(neighbor, 1.0, -1.0)) is None  # separable
    mixed = torch.tensor([0.9, 0.2, 0.3, 0.1, 0.25])
    fitted = fit_centred(mixed, neighbor, torch.where(neighbor, 1.0, -1.0))
    assert fitted is not None and 0.2 < -fitted[1] / fitted[0] < 0.55
    tilted = torch.tensor([9.0, 9.0, -0.1, -0.1, -0.1])  # the best centre lies below all cosines
    assert fit_sigmoid(mixed, tilted) is not None
    assert fit_centred(mixed, neighbor, tilted) is None


def test_a_scale_below_zero_is_no_fit() -> None:
    # pairs with a larger cosine have the negative weights
    cosine, weight = torch.tensor([0.9, 0.8, 0.3, 0.1]), torch.tensor([-1.0, 1.0, -1.0, 1.0])
    assert fit_sigmoid(cosine, weight) is None
    assert fit_sigmoid(cosine, -weight) is not None
    assert fit_sigmoid(cosine[:0], weight[:0]) is None


@pytest.mark.parametrize("gap", [2e-9, 1e-8, 3e-8])
def test_nearly_equal_cosines_are_no_fit_and_no_error(gap: float) -> None:
    """The Hessian is singular in float64."""
    cosine = torch.tensor([0.5, 0.5 + gap, 0.5, 0.5 + gap], dtype=torch.float64)
    assert fit_sigmoid(cosine, torch.tensor([1.0, 1.0, -1.0, -1.0])) is None


def test_large_batches_are_thinned() -> None:
    teacher = features(2100, 6).float() + 3.0
    whole, some, pairs = FDALoss(500), FDALoss(500), FDALoss(500)
    assert some.fit(teacher)  # 4 million pairs, of which every fourth query counts
    assert pairs.fit(teacher[:1000]) and whole.fit(teacher[:1000])
    torch.testing.assert_close(whole.bias, pairs.bias)
    assert math.isfinite(float(some.bias.detach()))
