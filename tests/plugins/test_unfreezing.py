"""Weights that are frozen and unfrozen within an experience, as gradual unfreezing does."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from avalanche.training.plugins import SupervisedPlugin
from torch import Tensor, nn

from avalanche_proxyfda import (
    AdamSPDPlugin,
    AveragingPlugin,
    DiGraPPlugin,
    L2SPPlugin,
    WiSEFTPlugin,
)
from tests.checkpoint.training import BreakOff, BrokenOffError, alike, build, train
from tests.plugins.test_reference_texts import TOKENS, Logits, TwoTowers, reference
from tests.plugins.toys import Plain, classic, strategy
from tests.reference import l2sp as reference_l2sp
from tests.reference.average import mean_of, moving_average

State = dict[str, Tensor]
STEPS = 8  # of an experience
UNFROZEN = 3  # the step that is the first with all weights


def part(model: nn.Module, name: str) -> nn.Module:
    return model.get_submodule(name)


class Unfreeze(SupervisedPlugin[Any]):
    """Freezes modules as an experience begins, and unfreezes them before one of its steps."""

    def __init__(self, *modules: str, at: int = UNFROZEN) -> None:
        super().__init__()
        self.modules, self.at, self.step = modules, at, 0
        self.states: list[State] = []  # the model before each step
        self.trained: list[State] = []  # and after it
        self.losses: list[float] = []

    def _set(self, model: nn.Module, trainable: bool) -> None:
        for name in self.modules:
            part(model, name).requires_grad_(trainable)

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        self._set(strategy.model, False)
        self.step = 0

    def before_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        if self.step == self.at:
            self._set(strategy.model, True)
        self.states.append(copy.deepcopy(strategy.model.state_dict()))
        self.step += 1

    def before_backward(self, strategy: Any, **kwargs: Any) -> None:
        self.losses.append(strategy.loss.item())

    def after_update(self, strategy: Any, **kwargs: Any) -> None:
        self.trained.append(copy.deepcopy(strategy.model.state_dict()))


class Losses(SupervisedPlugin[Any]):
    """The strategy's loss at its place."""

    def __init__(self) -> None:
        super().__init__()
        self.values: list[float] = []

    def before_backward(self, strategy: Any, **kwargs: Any) -> None:
        self.values.append(strategy.loss.item())


def run(own: Any, *modules: str, at: int = UNFROZEN, experiences: int = 1) -> tuple[Any, Any, Any]:
    """Train with ``own`` between a plugin that unfreezes and one that reads the loss."""
    torch.manual_seed(0)
    model, before, after = Plain(dropout=0.0), Unfreeze(*modules, at=at), Losses()
    trained = strategy(model, before, own, after, train_mb_size=8)
    for experience in classic(2).train_stream[:experiences]:
        trained.train(experience, eval_streams=[])
    assert len(before.states) == STEPS * experiences
    return model, before, after


def test_l2sp_pulls_at_unfrozen_weights() -> None:
    _, before, after = run(L2SPPlugin(weight=3.0), "backbone.5")
    names = [n for n, _ in Plain().named_parameters() if n.startswith("backbone")]
    start = before.states[0]
    for step, (first, last) in enumerate(zip(before.losses, after.values, strict=True)):
        weights = before.states[step]
        distance = reference_l2sp.l2sp([weights[n] for n in names], [start[n] for n in names])
        assert last - first == pytest.approx(3 * float(distance), rel=1e-3, abs=1e-5)
    moved = before.states[-1]["backbone.5.weight"] - start["backbone.5.weight"]
    assert float(moved.norm()) > 0


def test_l2sp_holds_unfrozen_weights_that_are_all_of_the_encoder() -> None:
    moved = []
    for weight in (0.0, 5.0):
        model, before, _ = run(L2SPPlugin(weight=weight), "backbone")
        change = model.state_dict()["backbone.5.weight"] - before.states[0]["backbone.5.weight"]
        moved.append(float(change.norm()))
    assert 0 < moved[1] < 0.8 * moved[0]


def test_digrap_projects_gradients_of_unfrozen_weights() -> None:
    class Noted(DiGraPPlugin):
        counts: list[int]

        def before_update(self, strategy: Any, **kwargs: Any) -> None:
            super().before_update(strategy, **kwargs)
            assert self.projection.omega is not None
            self.counts.append(len(self.projection.omega))

    own = Noted()
    own.counts = []
    model, _, _ = run(own, "backbone.5", "classifier")
    total = len(list(model.parameters()))
    fewer = total - 4
    assert own.counts == [fewer] * UNFROZEN + [total] * (STEPS - UNFROZEN)


def test_digrap_keeps_the_anchors_of_a_head_that_was_frozen_for_a_while() -> None:
    class Frozen(SupervisedPlugin[Any]):
        """Freezes the head in two of the steps, and reads its anchor in the last one."""

        def __init__(self) -> None:
            super().__init__()
            self.step = 0

        def before_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
            strategy.model.classifier.requires_grad_(self.step not in (2, 3))
            self.step += 1

        def before_update(self, strategy: Any, **kwargs: Any) -> None:
            own = next(p for p in strategy.plugins if isinstance(p, DiGraPPlugin))
            self.anchors = dict(zip(own.names, own.anchors, strict=True))

    model, frozen = Plain(), Frozen()
    start = copy.deepcopy(model.state_dict())
    trained = strategy(model, frozen, DiGraPPlugin(), train_mb_size=8)
    trained.train(classic(2).train_stream[0], eval_streams=[])
    assert torch.equal(frozen.anchors["classifier.weight"], start["classifier.weight"])


def test_adam_spd_acts_on_unfrozen_weights() -> None:
    class Noted(AdamSPDPlugin):
        """Gives each step what AdamSPD shortens; notes the steps that it has shortened.

        The gradient points away from the anchor, and the step leads further away from it.
        """

        shortened: list[bool]

        def before_update(self, strategy: Any, **kwargs: Any) -> None:
            weight = strategy.model.backbone[5].weight
            if weight.grad is not None:
                weight.data.add_(5.0)
                weight.grad.fill_(1.0)
            super().before_update(strategy, **kwargs)

        def after_update(self, strategy: Any, **kwargs: Any) -> None:
            weight = strategy.model.backbone[5].weight
            weight.data.add_(1.0)
            moved = weight.detach().clone()
            super().after_update(strategy, **kwargs)
            self.shortened.append(not torch.equal(weight, moved))

    own = Noted()
    own.shortened = []
    trained = strategy(Plain(), Unfreeze("backbone.5"), own, adam=True, train_mb_size=8)
    trained.train(classic(2).train_stream[0], eval_streams=[])
    assert own.shortened == [False] * UNFROZEN + [True] * (STEPS - UNFROZEN)


def numbers(state: State, name: str) -> list[float]:
    return state[name].double().flatten().tolist()


@pytest.mark.parametrize("decay", [0.8, None])
@pytest.mark.parametrize("include_head", [True, False])
def test_an_unfrozen_weight_joins_the_average(decay: float | None, include_head: bool) -> None:
    own = AveragingPlugin(decay, include_head=include_head)
    model, seen, _ = run(own, "backbone.5", "classifier")
    shipped = model.state_dict()
    for name in ("backbone.1.weight", "backbone.5.weight", "backbone.5.bias", "classifier.weight"):
        start, steps = numbers(seen.states[0], name), [numbers(s, name) for s in seen.trained]
        assert steps[-1] != start
        # a frozen weight is constant, so its average is the same from any step before it moves
        expected = mean_of(start, steps) if decay is None else moving_average(start, steps, decay)
        if name.startswith("classifier") and not include_head:
            expected = steps[-1]
        if decay is None and seen.modules and name.startswith(seen.modules):
            assert steps[UNFROZEN - 1] == start
        assert numbers(shipped, name) == pytest.approx(expected, abs=1e-5), name


def test_weights_unfrozen_before_the_first_step_begin_at_the_initial_anchor() -> None:
    name = "backbone.5.weight"
    model, seen, _ = run(AveragingPlugin(0.8, anchor="initial"), "backbone.5", at=0, experiences=2)
    steps = [numbers(state, name) for state in seen.trained[STEPS:]]
    expected = moving_average(numbers(seen.states[0], name), steps, 0.8)
    assert numbers(model.state_dict(), name) == pytest.approx(expected, abs=1e-5)
    assert numbers(seen.states[STEPS], name) != numbers(seen.states[0], name)


@pytest.mark.parametrize("make", [AveragingPlugin, DiGraPPlugin, L2SPPlugin, WiSEFTPlugin])
@pytest.mark.parametrize("broken", [2, 5])
def test_a_training_with_unfreezing_that_was_broken_off_ends_the_same(
    make: Any, broken: int, tmp_path: Path
) -> None:
    def plugins() -> list[Any]:
        return [Gradual(), make()]

    class Gradual(SupervisedPlugin[Any]):
        """Trains the last layer of the backbone from the fourth step of an experience on."""

        def before_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
            late = strategy.clock.train_exp_iterations >= UNFROZEN
            strategy.model.backbone[5].requires_grad_(late)

        def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
            strategy.model.backbone[5].requires_grad_(False)

    data = classic(2)
    whole = train(build(Plain, *plugins(), BreakOff()), data, tmp_path / "whole", every=None)
    with pytest.raises(BrokenOffError):
        train(build(Plain, *plugins(), BreakOff(broken)), data, tmp_path / "part", every=1)
    again = train(build(Plain, *plugins(), BreakOff()), data, tmp_path / "part", every=1)
    assert alike(whole, again)


def test_texts_follow_a_text_tower_that_is_unfrozen() -> None:
    model, own = TwoTowers(trained=False), Logits(reference_data=reference(TOKENS))
    trained = strategy(model, Unfreeze("text", at=2), own, train_mb_size=8)
    trained.train(classic(2).train_stream[0], eval_streams=[])
    assert len(own.seen) == STEPS
    texts = [beside.student_texts for beside in own.seen]
    assert [t.requires_grad for t in texts] == [False] * 2 + [True] * (STEPS - 2)
    assert torch.equal(texts[0], texts[1])
    assert not torch.equal(texts[2], texts[3])  # it trains
