"""L2-SP in a strategy: what it counts, what it leaves out, what it does."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from avalanche.training.plugins import SupervisedPlugin
from torch import Tensor, nn

from avalanche_proxyfda import FDAPlugin, L2SPPlugin
from tests.plugins.toys import Growing, Plain, classic, learn, strategy
from tests.reference import l2sp as reference


class Look(SupervisedPlugin[Any]):
    """Notes the loss at its place, and the model's weights."""

    def __init__(self) -> None:
        super().__init__()
        self.losses: list[float] = []
        self.weights: list[dict[str, Tensor]] = []

    def before_backward(self, strategy: Any, **kwargs: Any) -> None:
        self.losses.append(strategy.loss.item())
        named = strategy.model.named_parameters()
        self.weights.append({n: p.detach().clone().double() for n, p in named})


def test_the_term_is_the_encoders_distance_and_starts_at_zero() -> None:
    before, after, own = Look(), Look(), L2SPPlugin(weight=3.0)
    trained = strategy(Plain(), before, own, after)
    trained.train(classic(2).train_stream[0], eval_streams=[])
    start = before.weights[0]
    names = [n for n in start if n.startswith("backbone")]
    assert after.losses[0] == before.losses[0]
    for first, last, weights in zip(before.losses, after.losses, before.weights, strict=True):
        distance = reference.l2sp([weights[n] for n in names], [start[n] for n in names])
        assert last - first == pytest.approx(3 * float(distance), rel=1e-3, abs=1e-6)
    assert after.losses[-1] > before.losses[-1]
    assert not torch.equal(before.weights[-1]["classifier.weight"], start["classifier.weight"])


def test_a_large_weight_holds_the_encoder_and_not_the_head() -> None:
    moved = []
    for weight in (0.0, 5.0):
        model = Plain()
        start = {n: p.detach().clone() for n, p in model.named_parameters()}
        learn(strategy(model, L2SPPlugin(weight), train_epochs=4), classic(1))
        moved.append({n: float((p - start[n]).norm()) for n, p in model.named_parameters()})
    plain, held = moved
    assert all(
        held[n] < 0.5 * plain[n] for n in held if n in ("backbone.1.weight", "backbone.5.weight")
    )
    assert held["classifier.weight"] > 0.5 * plain["classifier.weight"]


def test_frozen_weights_take_no_part() -> None:
    model, own = Plain(), L2SPPlugin()
    model.backbone.requires_grad_(False)
    learn(strategy(model, own), classic(2))
    model.backbone[1].requires_grad_(True)
    trained = strategy(model, again := L2SPPlugin())

    class Count(SupervisedPlugin[Any]):
        def before_update(self, strategy: Any, **kwargs: Any) -> None:
            assert [tuple(w.shape) for w in again.weights] == [(12, 16), (12,)]

    trained.plugins.append(Count())
    trained.train(classic(2).train_stream[0], eval_streams=[])


def test_plugins_share_anchors_and_feature_plugins_do_not_take_them() -> None:
    first, second, other = (
        L2SPPlugin(),
        L2SPPlugin(name="b"),
        L2SPPlugin(anchor="initial", name="c"),
    )
    features = FDAPlugin(num_neighbors=4)

    class Check(SupervisedPlugin[Any]):
        def before_forward(self, strategy: Any, **kwargs: Any) -> None:
            assert first.anchor is second.anchor and first.anchor is not other.anchor
            assert features.teacher is not first.anchor

    learn(strategy(Plain(), first, second, other, features, Check()), classic(2))


def test_a_module_that_appeared_after_the_anchors_is_left_out_and_said_once() -> None:
    own = L2SPPlugin(anchor="initial", feature_module="backbone")
    model = Growing()
    trained, benchmark = strategy(model, own), classic(3)
    trained.train(benchmark.train_stream[0], eval_streams=[])
    model.backbone.append(nn.Linear(8, 8))
    with pytest.warns(UserWarning, match="L2SP leaves out 2 weights.*backbone.6.bias") as told:
        trained.train(benchmark.train_stream[1:], eval_streams=[])
    assert len([w for w in told if "leaves out" in str(w.message)]) == 1


def test_anchors_of_another_shape_are_named() -> None:
    own, model = L2SPPlugin(anchor="initial"), Plain()
    trained, benchmark = strategy(model, own), classic(2)
    trained.train(benchmark.train_stream[0], eval_streams=[])
    state = own.state_dict()
    state["reference"]["backbone.5.weight"] = torch.zeros(8, 11)
    fresh = L2SPPlugin(anchor="initial")
    fresh.load_state_dict(state)
    again = strategy(Plain(), fresh)
    with pytest.raises(ValueError, match=r"backbone.5.weight: \(8, 11\), the model's is \(8, 12\)"):
        again.train(benchmark.train_stream[1], eval_streams=[])


def test_a_model_with_nothing_before_the_head() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 6))
    trained = strategy(model, L2SPPlugin(feature_module="1:input"))
    with pytest.raises(ValueError, match=r"no parameter of Sequential comes before .*'1:input'"):
        trained.train(classic(2).train_stream[0], eval_streams=[])
