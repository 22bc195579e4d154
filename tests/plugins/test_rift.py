"""RIFT's learned rotation in a strategy: its start, its life, its state."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from avalanche.training.plugins import SupervisedPlugin
from torch import Tensor

from avalanche_proxyfda import RIFTPlugin
from tests.checkpoint.training import BreakOff, BrokenOffError, alike, build, train
from tests.plugins.toys import Plain, classic, learn, same, strategy


class Rotations(SupervisedPlugin[Any]):
    """The term of each step and the rotation before it, and the last rotation; by experience."""

    def __init__(self, own: RIFTPlugin) -> None:
        super().__init__()
        self.own = own
        self.rotations: list[list[Tensor]] = []
        self.terms: list[list[float]] = []
        self.grads: list[float] = []
        self.ends: list[Tensor] = []

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        self.rotations.append([])
        self.terms.append([])
        self.before = 0.0

    def after_backward(self, strategy: Any, **kwargs: Any) -> None:
        assert self.own.loss is not None
        self.rotations[-1].append(self.own.loss.rotation().detach().clone())
        self.grads.append(float(self.own.loss.skew.grad.norm()))
        total = float(self.own._log._sums["covariance"])
        self.terms[-1].append(total - self.before)
        self.before = total

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        assert self.own.loss is not None
        self.ends.append(self.own.loss.rotation().detach().clone())


@pytest.mark.parametrize("teacher", ["previous", "initial"])
def test_q_begins_at_the_identity_with_each_new_teacher(teacher: Any) -> None:
    own = RIFTPlugin(0.1, q="learned", teacher=teacher, learning_rate=0.05)
    seen, model = Rotations(own), Plain(dropout=0.0)
    model.backbone[2] = torch.nn.Identity()  # in train mode, batch normalisation changes nothing
    learn(strategy(model, own, seen, train_mb_size=20), classic(2))
    one = torch.eye(8)
    for (first, *others), terms in zip(seen.rotations, seen.terms, strict=True):
        new = teacher == "previous" or first is seen.rotations[0][0]
        assert torch.equal(first, one) == new and (terms[0] == 0) == new
        assert others and not any(torch.equal(q, one) for q in others[2:])
        for q in others:
            torch.testing.assert_close(q @ q.T, one, rtol=0, atol=1e-5)
        assert min(terms[1:]) > 0
    assert seen.grads[0] == 0 and max(seen.grads) > 0
    assert torch.equal(seen.rotations[1][0], seen.ends[0]) == (teacher == "initial")


def test_q_learns_beside_the_model_with_its_own_rate() -> None:
    ends: list[Tensor] = []
    for rate in (0.0, 0.05):
        own = RIFTPlugin(0.1, q="learned", learning_rate=rate)
        torch.manual_seed(0)
        trained = strategy(Plain(), own, train_epochs=2)
        trained.train(classic(1).train_stream[0], eval_streams=[])
        assert own.loss is not None and own.optimizer is not None
        ours = {id(p) for p in own.loss.parameters()}
        theirs = {id(p) for g in trained.optimizer.param_groups for p in g["params"]}
        assert len(ours) == 1 and not ours & theirs
        assert own.optimizer.param_groups[0]["weight_decay"] == 0
        ends.append(own.loss.rotation().detach())
    assert torch.equal(ends[0], torch.eye(8)) and not torch.equal(ends[1], torch.eye(8))


def test_a_fixed_rotation_has_no_optimizer() -> None:
    own = RIFTPlugin(0.1, centered=False)
    learn(strategy(Plain(), own), classic(2))
    assert own.optimizer is None and own.learned() == []
    assert own.loss is not None and not own.loss.centered


@pytest.mark.parametrize("teacher", ["previous", "initial"])
@pytest.mark.parametrize("step", [3, 17])
def test_a_training_that_was_broken_off_ends_in_the_same_bits(
    tmp_path: Path, teacher: Any, step: int
) -> None:
    made: list[RIFTPlugin] = []

    def make(at: int | None) -> Any:
        made.append(RIFTPlugin(0.1, q="learned", teacher=teacher, learning_rate=0.05))
        return build(Plain, made[-1], BreakOff(at), train_mb_size=10)

    benchmark = classic(2)
    whole = train(make(None), benchmark, tmp_path / "whole")
    with pytest.raises(BrokenOffError):
        train(make(step), benchmark, tmp_path / "broken")
    again = train(make(None), benchmark, tmp_path / "broken")
    assert alike(again, whole) and whole.clock.train_iterations == 24
    first, last = made[0], made[-1]
    assert first.loss is not None and last.loss is not None
    assert same(first.loss.state_dict(), last.loss.state_dict())
    assert not torch.equal(first.loss.rotation(), torch.eye(8))
    assert first.optimizer is not None and last.optimizer is not None
    ours, theirs = (p.optimizer.state_dict()["state"][0] for p in (first, last) if p.optimizer)
    assert same(ours, theirs)


def test_a_state_without_a_loss_is_of_a_fixed_rotation() -> None:
    old = {k: v for k, v in RIFTPlugin().state_dict().items() if k not in ("shape", "loss")}
    own = RIFTPlugin()
    own.load_state_dict(old)  # from before there was a learned Q
    learn(strategy(Plain(), own), classic(1))
    with pytest.raises(KeyError, match="shape"):
        RIFTPlugin(q="learned").load_state_dict(old)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"q": "learnt"}, ValueError, "q='learnt' is unknown; choose one of .*'learned'"),
        ({"centered": "no"}, TypeError, "centered='no' must be True or False"),
        ({"q": "learned", "learning_rate": -1}, ValueError, "learning_rate=-1 must be finite"),
    ],
)
def test_bad_options(options: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        RIFTPlugin(**options)
