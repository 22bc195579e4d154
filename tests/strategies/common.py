"""Strategies, models and watchers for tests of precision and accumulation."""

from __future__ import annotations

from typing import Any

import torch
from avalanche.benchmarks import benchmark_from_datasets
from avalanche.benchmarks.utils import as_classification_dataset
from avalanche.training import Naive
from avalanche.training.plugins import SupervisedPlugin
from torch import Tensor, nn

from avalanche_proxyfda import EfficientNaive
from tests.methods import accepted, toy_plugin
from tests.plugins.toys import CLASSES, Blobs, strategy


def acting(method: str, **options: Any) -> Any:
    """Return a method's toy plugin that acts from the first experience on.

    LwF knows classes, and LP-FT freezes a part of the model for half of the steps.
    """
    from_start = accepted(method, known_classes=(0, 1, 2), freeze_share=0.5)
    return toy_plugin(method, **(from_start | options))


class Smooth(nn.Module):
    """Without batch statistics and, by default, without random numbers: batches can be split."""

    def __init__(self, dropout: float = 0.0, norm: bool = False) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(3)
            self.backbone = nn.Sequential(
                nn.Flatten(),
                nn.Linear(16, 12),
                nn.BatchNorm1d(12) if norm else nn.Identity(),
                nn.Tanh(),
                nn.Dropout(dropout),
                nn.Linear(12, 8),
            )
            self.classifier = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.backbone(x))


class Wide(Blobs):
    """The same images in float64."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.images = self.images.double()


def one_experience(data: Any) -> Any:
    """All of ``data`` in one experience, without task labels."""
    made = as_classification_dataset(data)
    return benchmark_from_datasets(train=[made], test=[made]).train_stream[0]


class Steps(SupervisedPlugin[Any]):
    """Notes which callbacks fire, and the gradients of every optimizer's step."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []
        self.pending: list[int] = []
        self.gradients: list[dict[str, Tensor]] = []
        self.own: list[list[Tensor]] = []

    def before_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        self.calls.append("batch")

    def before_update(self, strategy: Any, **kwargs: Any) -> None:
        self.calls.append("update")
        named = strategy.model.named_parameters()
        self.gradients.append({n: p.grad.clone() for n, p in named if p.grad is not None})
        for plugin in strategy.plugins:
            optimizer = getattr(plugin, "optimizer", None)
            if optimizer is not None:
                held = [p for group in optimizer.param_groups for p in group["params"]]
                self.own.append([p.grad.clone() for p in held if p.grad is not None])

    def after_update(self, strategy: Any, **kwargs: Any) -> None:
        self.calls.append("updated")

    def after_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        self.pending.append(getattr(strategy, "pending_micro_batches", 0))


def trained(
    model: nn.Module,
    *plugins: Any,
    data: Any = None,
    batch: int = 20,
    kind: Any = None,
    adam: bool = False,
    epochs: int = 1,
    seed: int = 0,
    **options: Any,
) -> tuple[Any, Steps]:
    """Train one experience in the order of the data; return the strategy and its steps."""
    seen = Steps()
    kind = kind or (EfficientNaive if options else Naive)
    made = strategy(
        model,
        seen,
        *plugins,
        kind=kind,
        train_mb_size=batch,
        train_epochs=epochs,
        adam=adam,
        **options,
    )
    torch.manual_seed(seed)
    made.train(one_experience(data or Blobs(60)), eval_streams=[], shuffle=False)
    return made, seen
