"""DiGraP in a strategy: the recursion step by step, the head's anchors, its state."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from avalanche.training.plugins import SupervisedPlugin
from torch import Tensor, nn

from avalanche_proxyfda import DiGraPPlugin, LPFTPlugin
from tests.checkpoint.training import BreakOff, BrokenOffError, alike, build, train
from tests.plugins.toys import CLASSES, Multi, Plain, classic, learn, same, strategy
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


@pytest.mark.parametrize("exclude_head", [False, True])
@pytest.mark.parametrize("adam", [False, True], ids=["sgd", "adamw"])
def test_sixty_steps_in_a_strategy_equal_the_recursion(adam: bool, exclude_head: bool) -> None:
    torch.manual_seed(0)  # dropout and order decide how often gradients point away
    own = DiGraPPlugin(mu=0.5, exclude_head=exclude_head)
    before, after = Gradients(), Gradients()
    trained = strategy(Plain(), before, own, after, adam=adam, train_mb_size=20, train_epochs=10)
    for experience in classic(1).train_stream:
        trained.train(experience, eval_streams=[])
    assert len(before.seen) == 60
    changed, of_head = 0, 0
    for name in before.seen[0]:
        loop = DiGraP(0.5)
        anchor = before.weights[0][name].flatten().tolist()
        for step in range(60):
            given, found = before.seen[step][name], after.seen[step][name]
            if name.startswith("classifier"):
                of_head += not torch.equal(given, found)
                if exclude_head:
                    continue
            right = loop.step(
                before.weights[step][name].flatten().tolist(), anchor, given.flatten().tolist()
            )
            changed += not torch.equal(given, found)
            wanted = torch.tensor(right).view_as(found).double()
            # gradients are float32 here; omega's path to them is not smooth where h is small
            torch.testing.assert_close(found, wanted, rtol=2e-3, atol=2e-5)
    assert changed > 20 and (of_head == 0) == exclude_head


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
    for exclude_head in (False, True):
        model = Multi()
        model.backbone[1].requires_grad_(False)
        own = DiGraPPlugin(mu=10.0, exclude_head=exclude_head)
        idle, shapes, heads = look_at_heads(own, model)
        assert all(s[:4] == [(12,), (12,), (8, 12), (8,)] for s in shapes)  # not the frozen layer
        assert {len(s) for s in shapes} == ({4} if exclude_head else {6, 10})
        assert max(idle) == 4  # two old heads lie idle in the last experience
        assert heads == [] if exclude_head else all(heads)
        assert own.anchor is None and own.state_dict()["head"] == {} and own.weights == []


def look_at_heads(own: DiGraPPlugin, model: Multi) -> tuple[list[int], Any, list[bool]]:
    """Train on three tasks with probes: idle tensors, shapes, and checks of the head's anchors."""
    idle: list[int] = []
    shapes: list[list[tuple[int, ...]]] = []
    heads: list[bool] = []
    begun: dict[str, Tensor] = {}

    class Look(SupervisedPlugin[Any]):
        def before_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
            if strategy.clock.train_exp_epochs == 0:  # the probes are fitted
                begun.clear()
                named = strategy.model.classifier.named_parameters(prefix="classifier")
                begun.update({n: p.detach().clone() for n, p in named})

        def before_update(self, strategy: Any, **kwargs: Any) -> None:
            shapes.append([tuple(w.shape) for w in own.weights])
            idle.append(sum(p.grad is None for p in strategy.model.classifier.parameters()))
            anchors = dict(zip(own.names, own.anchors, strict=True))
            mine = {n: a for n, a in anchors.items() if n.startswith("classifier")}
            if mine:
                heads.append(same(mine, begun))

    learn(strategy(model, LPFTPlugin(l2=0.1), own, Look(), train_epochs=2), classic(3, True))
    return idle, shapes, heads


def test_initial_anchors_are_of_the_encoder_alone() -> None:
    own, model = DiGraPPlugin(anchor="initial"), Plain()
    given = {n: p.detach().clone() for n, p in model.named_parameters()}
    differ: list[dict[str, bool]] = []

    class Look(SupervisedPlugin[Any]):
        def before_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
            pairs = zip(own.names, own.anchors, strict=True)
            differ.append({n: not torch.equal(a, given[n]) for n, a in pairs})

    learn(strategy(model, own, Look()), classic(2))
    first, second = differ
    assert first.keys() == second.keys() == given.keys() and not any(first.values())
    assert {n for n, changed in second.items() if changed} == {
        "classifier.weight",
        "classifier.bias",
    }


def test_a_head_that_grows_inside_an_experience_is_new_there() -> None:
    from avalanche.benchmarks.scenarios.online import split_online_stream

    class Look(SupervisedPlugin[Any]):
        def before_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
            anchors.append(dict(zip(own.names, own.anchors, strict=True)))
            if len(anchors) > 1:
                assert own.projection.omega is not None
                omegas.append(dict(zip(own.names, own.projection.omega.tolist(), strict=True)))

    anchors: list[dict[str, Tensor]] = []
    omegas: list[dict[str, float]] = []  # from the second part on
    own, model = DiGraPPlugin(), Plain()
    trained = strategy(model, own, Look(), train_mb_size=10)
    parts = list(split_online_stream(classic(1).train_stream, 30))
    assert len(parts) == 4
    for part in parts[:3]:
        trained.train(part, eval_streams=[])
        assert own.projection.omega is not None
        own.projection.omega.fill_(0.5)
        if part is parts[1]:
            model.classifier = nn.Linear(8, CLASSES + 1)
            grown = model.classifier.named_parameters(prefix="classifier")
            begun = {n: p.detach().clone() for n, p in grown}
    trained.train(parts[3], eval_streams=[])
    assert set(begun) == {"classifier.weight", "classifier.bias"} < set(anchors[0])
    for name, anchor in anchors[0].items():
        later = begun.get(name, anchor)
        assert torch.equal(anchors[1][name], anchor) and torch.equal(anchors[2][name], later)
        assert torch.equal(anchors[3][name], later)
        assert [o[name] for o in omegas] == [0.5, 0.0 if name in begun else 0.5, 0.5]


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


@pytest.mark.parametrize("choice", ["previous", "initial"])
def test_a_training_that_was_broken_off_ends_in_the_same_bits(tmp_path: Path, choice: Any) -> None:
    """The heads come one by one; the break is inside the second experience."""

    def make(step: int | None) -> Any:
        return build(
            Multi,
            LPFTPlugin(l2=0.1),
            DiGraPPlugin(mu=10.0, anchor=choice),
            BreakOff(step),
            train_mb_size=8,
        )

    benchmark = classic(2, True)
    whole = train(make(None), benchmark, tmp_path / "whole")
    with pytest.raises(BrokenOffError):
        train(make(25), benchmark, tmp_path / "broken")
    assert alike(train(make(None), benchmark, tmp_path / "broken"), whole)


@pytest.mark.parametrize("flag", [0, None, "no"])
def test_exclude_head_is_true_or_false(flag: Any) -> None:
    with pytest.raises(TypeError, match=f"exclude_head={flag!r} must be True or False"):
        DiGraPPlugin(exclude_head=flag)
