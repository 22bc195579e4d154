"""DiGraP in a strategy: the recursion step by step, the head left alone, its state."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from avalanche.training.plugins import SupervisedPlugin
from torch import Tensor

from avalanche_proxyfda import DiGraPPlugin
from tests.plugins.toys import Multi, Plain, classic, learn, strategy
from tests.reference.digrap import DiGraP


class Gradients(SupervisedPlugin[Any]):
    """Keeps gradients at its place among the plugins, and weights."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[dict[str, Tensor]] = []
        self.weights: list[dict[str, Tensor]] = []

    def before_update(self, strategy: Any, **kwargs: Any) -> None:
        named = dict(strategy.model.named_parameters())
        self.seen.append({n: p.grad.double().clone() for n, p in named.items()})
        self.weights.append({n: p.detach().double().clone() for n, p in named.items()})


@pytest.mark.parametrize("adam", [False, True], ids=["sgd", "adamw"])
def test_fifty_steps_in_a_strategy_equal_the_recursion(adam: bool) -> None:
    before, after, own = Gradients(), Gradients(), DiGraPPlugin(mu=0.5)
    trained = strategy(Plain(), before, own, after, adam=adam, train_mb_size=20, train_epochs=10)
    for experience in classic(1).train_stream:
        trained.train(experience, eval_streams=[])
    assert len(before.seen) == 60
    changed = 0
    for name in before.seen[0]:
        loop = DiGraP(0.5)
        anchor = before.weights[0][name].flatten().tolist()
        for step in range(60):
            given, found = before.seen[step][name], after.seen[step][name]
            if name.startswith("classifier"):
                assert torch.equal(given, found)
                continue
            right = loop.step(
                before.weights[step][name].flatten().tolist(), anchor, given.flatten().tolist()
            )
            changed += not torch.equal(given, found)
            wanted = torch.tensor(right).view_as(found).double()
            # gradients are float32 here; omega's path to them is not smooth where h is small
            torch.testing.assert_close(found, wanted, rtol=2e-3, atol=2e-5)
    assert changed > 20


def test_every_experience_begins_with_no_strength() -> None:
    first: list[float] = []

    class Look(SupervisedPlugin[Any]):
        def before_update(self, strategy: Any, **kwargs: Any) -> None:
            strengths.append(float(own.projection.omega.max()))
            if strategy.clock.train_exp_iterations == 0:
                first.append(strengths[-1])

    own, strengths = DiGraPPlugin(mu=10.0), []
    trained = strategy(Plain(), own, Look(), train_epochs=4, train_mb_size=8)
    learn(trained, classic(3))
    assert first == [0.0] * 3 and 0 < max(strengths) <= 1 and own.projection.omega is None
    assert own.state_dict()["projection"] is None
    shown = trained.evaluator.get_last_metrics()["DiGraP_omega_Epoch/train_phase/train_stream"]
    assert 0 <= shown <= 1


def test_old_heads_without_gradient_and_frozen_weights() -> None:
    model = Multi()
    model.backbone[1].requires_grad_(False)
    own = DiGraPPlugin()
    shapes: list[list[tuple[int, ...]]] = []

    class Look(SupervisedPlugin[Any]):
        def before_update(self, strategy: Any, **kwargs: Any) -> None:
            shapes.append([tuple(w.shape) for w in own.weights])
            heads = strategy.model.classifier.parameters()
            idle.append(sum(p.grad is None for p in heads))

    idle: list[int] = []
    learn(strategy(model, own, Look(), train_epochs=2), classic(3, True))
    assert all(s == [(12,), (12,), (8, 12), (8,)] for s in shapes)  # neither frozen nor heads
    assert max(idle) == 4 and own.anchor is None  # two old heads lie idle in the last experience


def test_means_are_over_the_steps_in_which_it_acts() -> None:
    own, shares = DiGraPPlugin(), []

    class Look(SupervisedPlugin[Any]):
        def before_update(self, strategy: Any, **kwargs: Any) -> None:
            before = [w.grad is not None for w in own.weights]
            if strategy.clock.train_exp_iterations % 2:
                for weight in own.weights:
                    weight.grad = None
            else:
                assert all(before)

        def after_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
            shares.append(own._log._steps)

    trained = strategy(Plain(), Look(), own, train_mb_size=20)
    trained.train(classic(1).train_stream[0], eval_streams=[])
    assert shares == [1, 1, 2, 2, 3, 3]
