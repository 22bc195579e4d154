"""A plugin belongs to the first strategy that trains with it."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from typing import Any

import pytest
from torch import nn

from tests.methods import PLUGINS, toy_plugin
from tests.plugins.toys import Plain, classic, strategy


def train(model: nn.Module, plugin: Any) -> Any:
    trained = strategy(model, plugin)
    trained.train(classic().train_stream[0], eval_streams=[])
    return trained


@pytest.mark.parametrize("reference", ["previous", "initial"])
@pytest.mark.parametrize("method", PLUGINS)
def test_a_second_strategy_is_refused_also_when_the_first_is_gone(
    method: str, reference: str
) -> None:
    plugin = toy_plugin(method, reference=reference)
    first = train(Plain(), plugin)
    name = type(plugin).__name__
    with pytest.raises(ValueError, match=f"this {name} belongs to another strategy: its .*make"):
        train(Plain(seed=1), plugin)
    alive = weakref.ref(first)
    del first
    gc.collect()
    assert alive() is None
    words = f"this {name} belongs to another strategy, which no longer exists: its "
    with pytest.raises(ValueError, match=words):
        train(Plain(seed=1), plugin)


@pytest.mark.parametrize("method", PLUGINS)
def test_the_same_plugin_twice_is_refused(method: str) -> None:
    plugin = toy_plugin(method)
    twice = strategy(Plain(), plugin, plugin)
    words = f"the same {type(plugin).__name__} is listed 2 times in plugins="
    with pytest.raises(ValueError, match=words):
        twice.train(classic().train_stream[0], eval_streams=[])


def test_a_plugin_without_a_training_is_free() -> None:
    plugin = toy_plugin("fda")
    wrong = nn.Sequential(nn.DataParallel(Plain()))
    with pytest.raises(TypeError, match="DataParallel"):
        train(wrong, plugin)
    assert train(Plain(), plugin).clock.train_exp_counter == 1


@pytest.mark.parametrize(
    "again", [copy.deepcopy, lambda plugin: pickle.loads(pickle.dumps(plugin))]
)
def test_copies_and_loaded_states_go_on_in_another_strategy(again: Any) -> None:
    plugin = toy_plugin("proxy-fda", reference="initial")
    first = train(Plain(), plugin)
    twin = again(plugin)
    state = plugin.state_dict()
    fresh = toy_plugin("proxy-fda", reference="initial")
    fresh.load_state_dict(state)
    for resumed in (twin, fresh):
        second = strategy(first.model, resumed)
        second.clock.train_exp_counter = 1
        second.train(classic().train_stream[1], eval_streams=[])
        assert second.clock.train_exp_counter == 2
    with pytest.raises(ValueError, match="belongs to another strategy"):
        train(Plain(), twin)
