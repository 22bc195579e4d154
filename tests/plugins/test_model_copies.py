"""Copies and pickles of a model that trains: plain models, without hooks that act."""

from __future__ import annotations

import copy
import io
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from avalanche.training.plugins import SupervisedPlugin
from torch import nn

from avalanche_proxyfda import FeatureSource
from avalanche_proxyfda.features.tap import hook
from tests.methods import PLUGINS, WITH_CACHE, toy_plugin
from tests.plugins.toys import Plain, classic, hooks_of, same, strategy


def saved_and_loaded(model: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    loaded: nn.Module = torch.load(file, weights_only=False)
    return loaded


COPIES: dict[str, Callable[[nn.Module], nn.Module]] = {
    "torch.save": saved_and_loaded,
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
    "deepcopy": copy.deepcopy,
}


class Copies(SupervisedPlugin[Any]):
    """Copies the model in several callbacks, and runs each copy on other images."""

    def __init__(self, how: Callable[[nn.Module], nn.Module]) -> None:
        super().__init__()
        self.how = how
        self.hooks: set[int] = set()
        self.copies: list[nn.Module] = []

    def before_forward(self, strategy: Any, **kwargs: Any) -> None:
        self._copy(strategy.model)

    def after_forward(self, strategy: Any, **kwargs: Any) -> None:
        self._copy(strategy.model)

    def after_backward(self, strategy: Any, **kwargs: Any) -> None:
        self._copy(strategy.model)

    def _copy(self, model: nn.Module) -> None:
        self.hooks.add(hooks_of(model))
        twin = self.how(model)
        assert same(twin.state_dict(), model.state_dict())
        with torch.random.fork_rng():
            twin(torch.randn(3, 1, 4, 4))  # would replace the batch's features in a live hook
        self.copies = [twin]


def trained_weights(method: str, *others: Any) -> Any:
    torch.manual_seed(0)
    plugin = toy_plugin(method, reference="initial")
    trained = strategy(Plain(), plugin, *others)
    trained.train(classic().train_stream[0], eval_streams=[])
    return trained.model.state_dict()


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("method", PLUGINS)
def test_a_model_is_copied_while_it_trains(method: str, how: str) -> None:
    copies = Copies(COPIES[how])
    weights = trained_weights(method, copies)
    assert (max(copies.hooks) > 0) == (method in WITH_CACHE)
    assert same(weights, trained_weights(method))
    (twin,) = copies.copies
    plain = Plain()
    plain.load_state_dict(twin.state_dict())
    images = torch.randn(5, 1, 4, 4)
    assert torch.equal(twin.eval()(images), plain.eval()(images))


def test_a_copy_takes_plugins_of_its_own() -> None:
    copies = Copies(copy.deepcopy)
    trained_weights("fda", copies)
    (twin,) = copies.copies
    again = strategy(twin, toy_plugin("proxy-fda"))
    again.train(classic().train_stream[0], eval_streams=[])
    assert again.clock.train_iterations > 0


def test_a_saved_model_loads_without_this_package(tmp_path: Path) -> None:
    model, seen = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2)), list[Any]()
    hook(model[0], FeatureSource("0"), seen.append)
    hook(model[1], FeatureSource("1", of_input=True), seen.append)
    torch.save(model, tmp_path / "model.pt")
    code = (
        "import sys, torch; model = torch.load('model.pt', weights_only=False); "
        "print(tuple(model(torch.zeros(4, 2)).shape), 'avalanche_proxyfda' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    assert done.stdout.strip() == "(4, 2) False"
    model(torch.zeros(4, 2))
    assert [tuple(value.shape) for value in seen] == [(4, 3), (4, 3)]
