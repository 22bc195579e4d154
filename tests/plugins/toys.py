"""Small streams, models and strategies that train in a moment."""

from __future__ import annotations

from typing import Any

import torch
from avalanche.benchmarks import (
    benchmark_from_datasets,
    class_incremental_benchmark,
    nc_benchmark,
    task_incremental_benchmark,
    with_classes_timeline,
)
from avalanche.benchmarks.utils import as_classification_dataset
from avalanche.models import IncrementalClassifier, MultiHeadClassifier, MultiTaskModule
from avalanche.training import Naive
from avalanche.training.plugins import EvaluationPlugin
from torch import Tensor, nn
from torch.utils.data import Dataset

CLASSES = 6


class Blobs(Dataset[tuple[Tensor, int]]):
    """``count`` noisy 1 x 4 x 4 images of ``classes`` classes, the class shifting the mean."""

    def __init__(self, count: int = 120, classes: int = CLASSES, seed: int = 0) -> None:
        source = torch.Generator().manual_seed(seed)
        self.targets = [k % classes for k in range(count)]
        centres = torch.randn(classes, 1, 4, 4, generator=torch.Generator().manual_seed(99))
        self.images = torch.randn(count, 1, 4, 4, generator=source) + centres[self.targets]

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.images[index], self.targets[index]


def classic(experiences: int = 2, task_labels: bool = False, **sizes: int) -> Any:
    """The old API: task labels, three-part batches."""
    return nc_benchmark(
        Blobs(**sizes),
        Blobs(60, seed=1),
        experiences,
        task_labels=task_labels,
        fixed_class_order=list(range(CLASSES)),
        class_ids_from_zero_from_first_exp=not task_labels,
        class_ids_from_zero_in_each_exp=task_labels,
    )


def modern(experiences: int = 2) -> Any:
    """The new API: no task labels, two-part batches."""
    data = {
        "train": as_classification_dataset(Blobs()),
        "test": as_classification_dataset(Blobs(60, seed=1)),
    }
    return class_incremental_benchmark(
        data, num_experiences=experiences, class_order=list(range(CLASSES))
    )


def tasks() -> Any:
    """One task and label space for each of two data sets."""
    sets = [as_classification_dataset(Blobs(seed=s, classes=c)) for s, c in ((0, 3), (1, 5))]
    return with_classes_timeline(
        task_incremental_benchmark(benchmark_from_datasets(train=sets, test=sets))
    )


def backbone(seed: int = 0, dropout: float = 0.2) -> nn.Sequential:
    """Images to 8 features, with batch normalisation and dropout."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Flatten(),
            nn.Linear(16, 12),
            nn.BatchNorm1d(12),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(12, 8),
        )


class Chain(nn.Sequential):
    """Modules in a row, with a forward that every torch compiles; 2.11 skips torch.nn's own."""

    def forward(self, x: Tensor) -> Tensor:
        for module in self:
            x = module(x)
        return x


class Plain(nn.Module):
    """A static head over the backbone."""

    def __init__(self, seed: int = 0, dropout: float = 0.2) -> None:
        super().__init__()
        self.backbone = backbone(seed, dropout)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.classifier = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.backbone(x))


class Growing(nn.Module):
    """Avalanche's growing head."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = backbone()
        self.classifier = IncrementalClassifier(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.backbone(x))


class Multi(MultiTaskModule):
    """Avalanche's heads, one for each task."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = backbone()
        self.classifier = MultiHeadClassifier(8, 2, masking=False)

    def forward(self, x: Tensor, task_labels: Tensor) -> Tensor:
        return self.classifier(self.backbone(x), task_labels)


def strategy(
    model: nn.Module, *plugins: Any, kind: Any = Naive, adam: bool = False, **options: Any
) -> Any:
    """A strategy with small batches and no output."""
    optimizer = (
        torch.optim.AdamW(model.parameters(), lr=1e-2)
        if adam
        else torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    )
    return kind(
        model=model,
        optimizer=optimizer,
        criterion=nn.CrossEntropyLoss(),
        plugins=list(plugins),
        evaluator=EvaluationPlugin(loggers=[]),
        **{"train_mb_size": 24, "train_epochs": 1, "eval_mb_size": 60, **options},
    )


def learn(trained: Any, benchmark: Any, **options: Any) -> dict[str, Tensor]:
    """Train on every experience, evaluate after each; returns the final state dict."""
    for experience in benchmark.train_stream:
        trained.train(experience, eval_streams=[], **options)
        trained.eval(benchmark.test_stream)
    return trained.model.state_dict()


def hooks_of(model: nn.Module) -> int:
    """Return the number of forward hooks on the model."""
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    """Return True for bit-identical state dicts."""
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
