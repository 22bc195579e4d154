"""Trainings that can be broken off at a step and taken up again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from avalanche.evaluation.metrics import accuracy_metrics, forgetting_metrics, loss_metrics
from avalanche.training import Naive
from avalanche.training.plugins import EvaluationPlugin, SupervisedPlugin
from torch import nn

from avalanche_proxyfda.checkpoint.checkpoints import Checkpoints
from tests.plugins.toys import same


class BrokenOffError(Exception):
    """Ends a training before its last step."""


class BreakOff(SupervisedPlugin[Any]):
    """Raises, or calls ``act``, before one step of the whole training."""

    def __init__(self, step: int | None = None, act: Any = None) -> None:
        super().__init__()
        self.step, self.act = step, act

    def before_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        if strategy.clock.train_iterations == self.step:
            if self.act is None:
                raise BrokenOffError
            self.act()

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Any) -> None:
        pass


def build(make_model: Any, *plugins: Any, kind: Any = Naive, **options: Any) -> Any:
    """A strategy with metrics of all kinds, AdamW, and two epochs an experience."""
    torch.manual_seed(0)
    model = make_model()
    return kind(
        model=model,
        optimizer=torch.optim.AdamW(model.parameters(), lr=1e-2),
        criterion=nn.CrossEntropyLoss(),
        plugins=list(plugins),
        evaluator=EvaluationPlugin(
            accuracy_metrics(epoch=True, experience=True, stream=True),
            forgetting_metrics(experience=True, stream=True),
            loss_metrics(epoch=True),
            loggers=[],
        ),
        **{"train_mb_size": 24, "train_epochs": 2, "eval_mb_size": 60, **options},
    )


def train(
    strategy: Any, benchmark: Any, folder: Path, every: int | None = 2, **options: Any
) -> Any:
    """Train on from the folder's checkpoint, with new checkpoints; return the strategy."""
    torch.manual_seed(1)
    checkpoints = Checkpoints(strategy, folder, every=every, minutes=None)
    found = checkpoints.resume()
    for experience in benchmark.train_stream[found.experiences if found else 0 :]:
        strategy.train(experience, eval_streams=[], **options)
        strategy.eval(benchmark.test_stream)
        checkpoints.save()
    return strategy


def alike(one: Any, other: Any) -> bool:
    """Return True for bit-identical weights, optimizers, metrics and clocks."""
    metrics = [repr(s.evaluator.get_all_metrics()) for s in (one, other)]
    states = [s.optimizer.state_dict()["state"] for s in (one, other)]
    moments = [[v for held in state.values() for v in held.values()] for state in states]
    return (
        same(one.model.state_dict(), other.model.state_dict())
        and metrics[0] == metrics[1]
        and len(moments[0]) == len(moments[1])
        and all(torch.equal(a, b) for a, b in zip(*moments, strict=True))
        and vars(one.clock) == vars(other.clock)
    )
