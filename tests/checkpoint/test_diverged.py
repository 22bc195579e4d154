"""A step that fails a check is never saved, also where the check is read long after the step."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from avalanche_proxyfda import Checkpoints, PKTPlugin
from avalanche_proxyfda.checkpoint.files import LATEST, PREVIOUS, read_state
from avalanche_proxyfda.plugins.base.terms import FiniteWatch
from tests.checkpoint.training import BreakOff, build
from tests.methods import toy_plugin
from tests.plugins.toys import Plain, classic


class Poison(BreakOff):
    """Makes the images of one step NaN, and the weights with them."""

    def before_forward(self, strategy: Any, **kwargs: Any) -> None:
        if strategy.clock.train_iterations == self.step:
            strategy.mbatch[0].fill_(torch.nan)

    def before_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        if strategy.clock.train_iterations == self.step and self.act is not None:
            self.act()


def late(plugin: Any) -> Any:
    """Return the plugin with the check of an accelerator, which is read every 100 steps."""
    plugin._watch = FiniteWatch(every=100)
    return plugin


def diverge(own: Any, step: int, folder: Path, act: Any = None, **options: Any) -> Any:
    """Train an experience of four steps, one of them NaN, until the error."""
    strategy = build(Plain, own, Poison(step, act), **options.pop("built", {}))
    checkpoints = Checkpoints(strategy, folder, **options)
    words = rf"NaN or Inf in experience 0, iteration {step}:"
    with pytest.raises(ValueError, match=words):
        strategy.train(classic(1, count=48).train_stream[0], eval_streams=[])
    assert not all(bool(v.isfinite().all()) for v in strategy.model.state_dict().values())
    checkpoints._signals.restore()


def steps_of(folder: Path) -> dict[str, int]:
    """Return the steps of each checkpoint; all its weights are finite."""
    found = {}
    for name in (LATEST, PREVIOUS):
        if (folder / name).exists():
            state = read_state(folder / name)["strategy"]
            weights = (*state["model"]["parameters"].values(), *state["model"]["buffers"].values())
            assert all(bool(value.isfinite().all()) for value in weights)
            found[name] = state["clock"]["train_iterations"]
    return found


def test_the_last_step_of_an_experience_is_not_saved(tmp_path: Path) -> None:
    diverge(late(PKTPlugin(1.0)), 3, tmp_path)
    assert steps_of(tmp_path) == {}


def test_neither_of_the_two_files_is_harmed(tmp_path: Path) -> None:
    diverge(late(PKTPlugin(1.0)), 2, tmp_path, every=1)
    assert steps_of(tmp_path) == {LATEST: 2, PREVIOUS: 1}


def test_a_signal_in_a_bad_step_saves_nothing(tmp_path: Path) -> None:
    """The error is raised in place of the end of the process, as if the check was read at once."""

    def ask() -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    for folder, plugin in (("late", late(PKTPlugin(1.0))), ("at once", PKTPlugin(1.0))):
        diverge(plugin, 2, tmp_path / folder, ask)
        assert steps_of(tmp_path / folder) == {}


class PoisonGradients(BreakOff):
    """Makes the gradients of one step NaN; all terms of the step are finite."""

    def after_backward(self, strategy: Any, **kwargs: Any) -> None:
        if strategy.clock.train_iterations == self.step:
            next(strategy.model.parameters()).grad.fill_(torch.nan)

    def before_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        pass


@pytest.mark.parametrize(
    ("every", "kept"), [(1, {LATEST: 2, PREVIOUS: 1}), (None, {})], ids=["each step", "the last"]
)
def test_weights_that_are_nan_are_not_saved(
    every: int | None, kept: dict[str, int], tmp_path: Path
) -> None:
    """Without a plugin of this package too; the last step of an experience is no exception."""
    strategy = build(Plain, PoisonGradients(2 if every else 3), train_epochs=1)
    checkpoints = Checkpoints(strategy, tmp_path, every=every)
    with pytest.raises(ValueError, match=r"model\.\S+ became NaN or Inf within [34] steps"):
        strategy.train(classic(1, count=96).train_stream[0], eval_streams=[])
    assert steps_of(tmp_path) == kept
    with pytest.raises(ValueError, match="no checkpoint was saved"):
        checkpoints.save()
    assert steps_of(tmp_path) == kept
    checkpoints._signals.restore()


def test_the_weights_of_a_plugins_loss_are_checked(tmp_path: Path) -> None:
    own = toy_plugin("proxy-fda")
    strategy = build(Plain, own)
    strategy.train(classic(1, count=48).train_stream[0], eval_streams=[])
    with torch.no_grad():
        next(own.loss.parameters()).fill_(torch.inf)
    with pytest.raises(
        ValueError, match=r"ProxyFDAPlugin\.loss\.\S+( and \d+ more)? became NaN or Inf"
    ):
        Checkpoints(strategy, tmp_path).save()
    assert steps_of(tmp_path) == {}


def test_infinite_masks_and_frozen_weights_are_saved(tmp_path: Path) -> None:
    strategy = build(Plain)
    strategy.model.register_buffer("mask", torch.full((2, 2), -torch.inf))
    frozen = torch.nn.Parameter(torch.tensor([torch.nan]), requires_grad=False)
    strategy.model.register_parameter("frozen", frozen)
    assert Checkpoints(strategy, tmp_path).save().name == LATEST
