"""A resume inside an experience loads a state twice; the beginning in between may change it all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from avalanche.training.plugins import SupervisedPlugin

from tests.checkpoint.training import BreakOff, BrokenOffError, build, train
from tests.plugins.toys import Plain, classic


class Counts(SupervisedPlugin[Any]):
    """Counts the steps of an experience in a tensor and a set, which it changes in place."""

    def __init__(self) -> None:
        super().__init__()
        self.total = torch.zeros(2)
        self.steps: set[int] = set()

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        self.total.zero_()
        self.steps.clear()

    def after_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        self.total += 1
        self.steps.add(strategy.clock.train_exp_iterations)

    def result(self, strategy: Any) -> Any:
        return self.total.tolist(), self.steps


class CountsWithState(Counts):
    """The same with methods of its own, which keep what they are given."""

    def state_dict(self) -> dict[str, Any]:
        return {"total": self.total, "steps": self.steps}

    def load_state_dict(self, state: Any) -> None:
        self.total, self.steps = state["total"], state["steps"]


class CountsInModel(Counts):
    """The same in an attribute of the model."""

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        strategy.model.steps.clear()

    def after_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        strategy.model.steps.append(strategy.clock.train_exp_iterations)

    def result(self, strategy: Any) -> Any:
        return strategy.model.steps


class Decay(SupervisedPlugin[Any]):
    """Halves a learning rate that is a tensor in each step, from 1 at the start on."""

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        strategy.optimizer.param_groups[0]["lr"].fill_(1.0)

    def after_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        strategy.optimizer.param_groups[0]["lr"].mul_(0.5)

    def result(self, strategy: Any) -> Any:
        return float(strategy.optimizer.param_groups[0]["lr"])


class PlainWithSteps(Plain):
    """The plain model with a list."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[int] = []


@pytest.mark.parametrize("kind", [Counts, CountsWithState, CountsInModel, Decay])
def test_the_second_load_is_that_of_the_file(tmp_path: Path, kind: Any) -> None:
    stream, results = classic(2, count=60), []
    for folder, steps in (("whole", [None]), ("parts", [6, None])):
        for step in steps:
            plugin = kind()
            strategy = build(PlainWithSteps, plugin, BreakOff(step))
            strategy.optimizer.param_groups[0].update(lr=torch.tensor(0.01), foreach=False)
            try:
                train(strategy, stream, tmp_path / folder, every=1)
            except BrokenOffError:
                continue
            results.append(plugin.result(strategy))
    assert len(results) == 2 and results[0] == results[1]
