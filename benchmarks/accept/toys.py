"""Small images, models and strategies that train in a moment, for the checks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from avalanche.benchmarks import (
    benchmark_from_datasets,
    class_incremental_benchmark,
    task_incremental_benchmark,
    with_classes_timeline,
)
from avalanche.benchmarks.utils import as_classification_dataset
from avalanche.models import IncrementalClassifier, MultiHeadClassifier, MultiTaskModule
from avalanche.training.plugins import EvaluationPlugin
from torch import Tensor, nn
from torch.utils.data import Dataset

from avalanche_proxyfda import EfficientNaive, LPFTPlugin
from avalanche_proxyfda._protocols import Strategy
from avalanche_proxyfda.data.reference import ReferenceData
from benchmarks.methods.plugins import arguments_of, make_plugins, needs_reference
from benchmarks.methods.registry import METHODS
from benchmarks.perf.arms import strength_of

Heads = Literal["static", "growing", "multi"]
HEADS: tuple[Heads, ...] = ("static", "growing", "multi")
SIDE, WIDTH, CLASSES = 16, 16, 6
STRENGTHS: Mapping[str, float] = {
    **dict.fromkeys(("rift", "snd", "dive", "fda", "proxy-fda"), 0.1),
    **dict.fromkeys(("zscl", "lipsum-ft"), 1e-3),
}
"""Strengths that leave gradients of toys in the range of fp16; its updates would be skipped."""


class Shapes(Dataset[tuple[Tensor, int]]):
    """Noisy images [3, 16, 16], the class shifting the mean.

    Args:
        count: number of images.
        seed: seed of the noise.
    """

    def __init__(self, count: int = 96, seed: int = 0) -> None:
        centres = torch.randn(CLASSES, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(9))
        source = torch.Generator().manual_seed(seed)
        self.targets = [k % CLASSES for k in range(count)]
        noise = torch.randn(count, 3, SIDE, SIDE, generator=source)
        self.images = noise + centres[self.targets]

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.images[index], self.targets[index]


def stream_for(heads: Heads) -> Any:
    """Return a stream of two experiences; with a task label each for ``"multi"``."""
    if heads == "multi":
        sets = [as_classification_dataset(Shapes(seed=seed)) for seed in (0, 1)]
        return with_classes_timeline(
            task_incremental_benchmark(benchmark_from_datasets(train=sets, test=sets))
        )
    data = {
        name: as_classification_dataset(Shapes(seed=k)) for k, name in enumerate(("train", "test"))
    }
    return class_incremental_benchmark(data, num_experiences=2, class_order=list(range(CLASSES)))


class _Static(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tower, self.head = _tower(), nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.tower(x))
        return logits


class _Growing(_Static):
    def __init__(self) -> None:
        super().__init__()
        self.head = IncrementalClassifier(WIDTH, 2)


class _Multi(MultiTaskModule):
    def __init__(self) -> None:
        super().__init__()
        self.tower, self.head = _tower(), MultiHeadClassifier(WIDTH, 2, masking=False)

    def forward(self, x: Tensor, task_labels: Tensor) -> Tensor:
        logits: Tensor = self.head(self.tower(x), task_labels)
        return logits


class _Chain(nn.Sequential):
    """Modules in a row, with a forward that every torch compiles; 2.11 skips torch.nn's own."""

    def forward(self, x: Tensor) -> Tensor:
        for module in self:
            x = module(x)
        return x


def _tower() -> _Chain:
    """Return a small network; a bias before the batch norm would have no gradient, but noise."""
    return _Chain(
        nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, WIDTH, 3, stride=2, padding=1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )


_MODELS: Mapping[Heads, type[nn.Module]] = {
    "static": _Static,
    "growing": _Growing,
    "multi": _Multi,
}


def plugins_for(method: str, **options: Any) -> list[Any]:
    """Return the plugins of a method, with values for toys.

    Args:
        method: key of :data:`~benchmarks.methods.registry.METHODS`.
        options: further options; those that the method does not have are left out.
    """
    names = arguments_of(method)
    usual = {
        "num_neighbors": 4,
        "taps": ("tower.0", "tower.3", "tower"),
        "known_classes": (0, 1),  # what a head of two units can know
        "feature_module": "tower",
        "hard_class_batches": False,
        "teacher_cache": "off",
    }
    given = {name: value for name, value in {**usual, **options}.items() if name in names}
    if needs_reference(method):
        texts = torch.randn(5, WIDTH, generator=torch.Generator().manual_seed(8))
        given["reference_data"] = ReferenceData(Shapes(24, seed=7), texts, batch=8)
    first: list[Any] = [LPFTPlugin()] if method == "lp-ft" else []
    strength = STRENGTHS.get(method, strength_of(method))
    return first + make_plugins(method, strength, "previous", 0, given)


def strategy_for(
    method: str,
    heads: Heads,
    device: torch.device,
    *,
    last: Sequence[Any] = (),
    adam: Mapping[str, Any] | None = None,
    epochs: int = 1,
    plugin_options: Mapping[str, Any] | None = None,
    **options: Any,
) -> Any:
    """Return a strategy of a method on a small network.

    Args:
        method: key of :data:`~benchmarks.methods.registry.METHODS`.
        heads: kind of the head.
        device: device of the training.
        last: plugins after the method's.
        adam: arguments of AdamW.
        epochs: epochs of an experience.
        plugin_options: options of the method's plugin.
        options: arguments of :class:`~avalanche_proxyfda.EfficientNaive`.
    """
    torch.manual_seed(0)
    model = _MODELS[heads]().to(device)
    if not METHODS[method].trains_tower:
        model.tower.requires_grad_(False)  # type: ignore[union-attr]
    return EfficientNaive(
        model=model,
        optimizer=torch.optim.AdamW(model.parameters(), lr=1e-2, **(adam or {})),
        criterion=nn.CrossEntropyLoss(),
        train_mb_size=16,
        eval_mb_size=48,
        train_epochs=epochs,
        device=device,
        plugins=[*plugins_for(method, **(plugin_options or {})), *last],
        evaluator=EvaluationPlugin(loggers=[]),  # metrics of Avalanche wait in each step
        **options,
    )


def finals(strategy: Strategy) -> dict[str, Tensor]:
    """Return a copy of the model's state, on the CPU."""
    return _copied(strategy.model.state_dict())


def weights_of(strategy: Strategy) -> dict[str, Tensor]:
    """Return a copy of the weights that are trained, on the CPU."""
    named = strategy.model.named_parameters()
    return _copied({name: value for name, value in named if value.requires_grad})


def _copied(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copy, since on a CPU the values are the model's own, which training changes."""
    return {name: value.detach().cpu().clone() for name, value in values.items()}


def distance(start: Mapping[str, Tensor], end: Mapping[str, Tensor]) -> float:
    """Return the Euclidean distance of two results of :func:`weights_of`.

    A weight that ``start`` lacks, or has in another shape, counts from zero: a head grows.
    """
    square = 0.0
    for name, value in end.items():
        known = start.get(name)
        if known is None or known.shape != value.shape:
            known = torch.zeros_like(value)
        square += float((value.double() - known.double()).square().sum())
    return math.sqrt(square)
