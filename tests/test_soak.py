"""Training that goes on and on: nothing piles up while experiences come and heads grow."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
import torch
from avalanche.benchmarks import nc_benchmark
from avalanche.models import IncrementalClassifier
from avalanche.training import Naive
from avalanche.training.plugins import EvaluationPlugin
from torch import Tensor, nn
from torch.utils.data import Dataset

from avalanche_proxyfda import LDIFSPlugin, ProxyFDAPlugin
from avalanche_proxyfda.teacher.teacher import FeatureTeacher
from tests.plugins.toys import hooks_of

BATCH, WIDTH = 16, 32


class Endless(Dataset[tuple[Tensor, int]]):
    """Images made when they are asked for, so that the data weigh nothing."""

    def __init__(self, classes: int, per_class: int) -> None:
        self.targets = [k % classes for k in range(classes * per_class)]

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        draw = torch.Generator().manual_seed(index)
        return torch.randn(3, 8, 8, generator=draw) + self.targets[index] % 7, self.targets[index]


class Growing(nn.Module):
    """Convolutions under a head that grows with every experience."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, WIDTH, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        self.classifier = IncrementalClassifier(WIDTH, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.backbone(x))


def stream(experiences: int, steps: int) -> Any:
    """``experiences`` of two new classes each, ``steps`` batches long."""
    classes, each = 2 * experiences, BATCH * steps // 2
    return nc_benchmark(
        Endless(classes, each),
        Endless(classes, 1),
        experiences,
        task_labels=False,
        fixed_class_order=list(range(classes)),
        class_ids_from_zero_from_first_exp=True,
    )


def trained(benchmark: Any) -> Iterator[Any]:
    """The strategy after each experience."""
    torch.manual_seed(0)
    model = Growing()
    strategy = Naive(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9),
        criterion=nn.CrossEntropyLoss(),
        train_mb_size=BATCH,
        train_epochs=1,
        eval_mb_size=64,
        plugins=[
            ProxyFDAPlugin(num_neighbors=3),
            LDIFSPlugin(taps=["backbone.0", "backbone.3"], weight=1.0),
        ],
        # Avalanche keeps every value of every metric for good unless it is told not to
        evaluator=EvaluationPlugin(loggers=[], collect_all=False),
    )
    for experience in benchmark.train_stream:
        strategy.train(experience, eval_streams=[])
        yield strategy


def alive() -> tuple[int, int]:
    """How many tensors and teachers there are, after what nobody holds has gone."""
    gc.collect()
    found = gc.get_objects()
    return (
        sum(issubclass(type(x), Tensor) for x in found),
        sum(issubclass(type(x), FeatureTeacher) for x in found),
    )


def test_nothing_is_kept_of_experiences_that_are_over() -> None:
    others = alive()[1]  # what other tests have left
    counts, steps = [], 0
    for strategy in trained(stream(10, 15)):
        tensors, teacher_count = alive()
        counts.append(tensors)
        parameters = list(strategy.model.parameters())
        groups = [p for group in strategy.optimizer.param_groups for p in group["params"]]
        assert teacher_count - others <= 1
        assert hooks_of(strategy.model) == 0
        assert {id(p) for p in groups} == {id(p) for p in parameters}
        assert len(groups) == len(parameters) >= len(strategy.optimizer.state)
        steps = strategy.clock.train_iterations
    assert steps == 150
    assert max(counts[3:]) <= counts[2], counts


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_memory_is_flat_over_two_thousand_steps() -> None:
    process, resident, counts = psutil.Process(), [], []
    steps = 0
    for strategy in trained(stream(100, 20)):
        counts.append(alive()[0])
        resident.append(process.memory_info().rss)
        steps = strategy.clock.train_iterations
    warm = resident[19]
    print(
        f"\n{steps} steps; resident MiB after 20, 40, … 100 experiences: "
        + ", ".join(f"{resident[k] / 2**20:.1f}" for k in range(19, 100, 20))
        + f"; most after warm-up {max(resident[19:]) / warm - 1:+.2%}; tensors "
        + f"{counts[19]} to {counts[-1]}"
    )
    assert steps == 2000
    assert max(resident[19:]) <= 1.05 * warm
    assert counts[-1] <= counts[19]
