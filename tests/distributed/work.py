"""Trainings for ranks and, the same, for a single process."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from avalanche.benchmarks import dataset_benchmark
from avalanche.benchmarks.utils import _make_taskaware_classification_dataset
from avalanche.evaluation.metrics import (
    accuracy_metrics,
    confusion_matrix_metrics,
    forgetting_metrics,
    loss_metrics,
)
from avalanche.models import IncrementalClassifier, MultiHeadClassifier, MultiTaskModule
from avalanche.training import Naive
from avalanche.training.plugins import EvaluationPlugin, SupervisedPlugin
from torch import Tensor, nn

from avalanche_proxyfda import AutoWeight, RIFTLoss, RIFTPlugin
from avalanche_proxyfda.distributed import DistributedTraining
from avalanche_proxyfda.plugins.base.weighted import WeightedPlugin
from tests.methods import ON_REFERENCE, PLUGINS, toy_plugin
from tests.plugins import toys


def _features(noise: float = 0.0) -> nn.Sequential:
    torch.manual_seed(0)
    layers = [nn.Flatten(), nn.Linear(16, 12), nn.Tanh(), nn.Linear(12, 8)]
    return nn.Sequential(*layers, nn.Dropout(noise))


class Static(nn.Module):
    """In float64, so that results do not depend on the order of sums."""

    def __init__(self, noise: float = 0.0) -> None:
        super().__init__()
        self.backbone = _features(noise)
        self.classifier = nn.Linear(8, toys.CLASSES)
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.backbone(x.double()))


class Growing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = _features()
        self.classifier = IncrementalClassifier(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.backbone(x))


class Multi(MultiTaskModule):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = _features()
        self.classifier = MultiHeadClassifier(8, 2, masking=False)

    def forward(self, x: Tensor, task_labels: Tensor) -> Tensor:
        return self.classifier(self.backbone(x), task_labels)


class Normed(nn.Module):
    """With batch normalisation in front."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.BatchNorm2d(1), *_features())
        self.classifier = nn.Linear(8, toys.CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.backbone(x))


MODELS = {"static": Static, "growing": Growing, "multi": Multi, "normed": Normed}


def joint() -> Any:
    """One experience of two tasks, of 60 and 20 images."""
    parts = [
        _make_taskaware_classification_dataset(
            toys.Blobs(count, classes=3, seed=task), task_labels=task
        )
        for task, count in enumerate((60, 20))
    ]
    both = parts[0].concat(parts[1])
    return dataset_benchmark([both], [both])


STREAMS = {
    "classic": toys.classic,
    "modern": toys.modern,
    "tasks": toys.tasks,
    "joint": joint,
}
OPTIONS: Mapping[str, Mapping[str, Any]] = {
    # a fit amplifies float32 rounding, which differs between ranks; fda-fitted runs in float64
    "fda": {"weight": 2.0, "start": "siglip"},
    "proxy-fda": {"weight": 2.0},
    "rkd": {"weight": 2.0},
    "rift": {"weight": 2.0, "mean_weight": 0.5},
    "ldifs": {"weight": 5.0},
    "lwf": {"weight": 2.0},
    "soft-fda": {"weight": 2.0, "memory": 30, "mining": "random"},
    "lp-ft": {"freeze_share": 0.3},
}
"""Strengths above the toy values, and options that add a term or frozen steps."""
ALL = ("lp-ft", "fda", "ldifs", "lwf", "l2sp", "digrap")
AUTOMATIC = tuple(
    f"{method}-auto"
    for method, kind in PLUGINS.items()
    if issubclass(kind, WeightedPlugin) and method not in ON_REFERENCE
)
"""Methods whose weight can be ``"auto"``."""
METHODS = (
    "plain",
    *(method for method in PLUGINS if method not in ON_REFERENCE),
    "fda-shuffled",
    "rift-learned",
    "all",
)


class WideRotation(RIFTPlugin, supports_distributed=True):
    """RIFT with Q in float64: AdamW's first steps scale up the rounding of small gradients."""

    def build_loss(self, dim: int, batch: int) -> RIFTLoss:
        return super().build_loss(dim, batch).double()


def plugins_of(method: str) -> list[Any]:
    """Return the plugins of one of ``METHODS``."""
    if method == "rift-learned":
        return [WideRotation(2.0, q="learned", mean_weight=0.5, name="RIFT")]
    if method == "fda-online-clean":
        return [toy_plugin("fda-online", teacher_cache="clean", start="siglip")]
    if method == "ldifs-averaged":
        return [toy_plugin("ldifs", teacher="averaged", teacher_decay=0.5)]
    if method.endswith("-auto"):
        name = method.removesuffix("-auto")
        limits = AutoWeight(delta=0.3, maximum=0.1)
        if PLUGINS[name].auto_rule == "share":
            limits = AutoWeight()
        elif PLUGINS[name].auto_rule == "drift":
            limits = AutoWeight(drift=1.0)  # a weight that amplifies no rounding
        options = {**OPTIONS.get(name, {}), "weight": "auto", "auto_weight": limits}
        return [toy_plugin(name, **options)]
    if method == "all":
        return [toy_plugin(name) for name in ALL]
    return [] if method == "plain" else [toy_plugin(method, **OPTIONS.get(method, {}))]


class Watch(SupervisedPlugin[Any], supports_distributed=True):
    """Records images, gradients and loss of each step."""

    def __init__(self) -> None:
        super().__init__()
        self.losses: list[Tensor] = []
        self.gradients: list[Tensor] = []
        self.images: list[list[Tensor]] = []  # by epoch
        self.followed: list[list[Tensor]] = []  # statistics, after each epoch

    def before_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
        self.images.append([])

    def before_update(self, strategy: Any, **kwargs: Any) -> None:
        found = [p.grad for p in strategy.model.parameters() if p.grad is not None]
        self.gradients.append(torch.cat([g.flatten() for g in found]).clone())
        self.images[-1].append(strategy.mb_x.clone())

    def after_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        self.losses.append(strategy.loss.detach().clone())

    def after_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
        found = [getattr(plugin, "followed_statistics", list)() for plugin in strategy.plugins]
        self.followed.append([value.clone() for values in found for value in values])


class Draws(SupervisedPlugin[Any], supports_distributed=True):
    """Draws from the global stream in each step, as dropout does."""

    def __init__(self) -> None:
        super().__init__()
        self.draws: list[Tensor] = []

    def before_update(self, strategy: Any, **kwargs: Any) -> None:
        self.draws.append(torch.rand(2))


def learn(
    method: str = "plain",
    model: str = "static",
    stream: str = "classic",
    seed: int = 1,
    adam: bool = False,
    extra: Any = (),
    loading: Any = None,
    kind: Any = Naive,
    plain: bool = False,
    shift: float = 0.0,
    within: bool = False,
    **options: Any,
) -> dict[str, Any]:
    """Train by a method on every experience, evaluate after each, and return all results.

    ``plain`` leaves out the plugin for ranks; ``extra`` makes plugins before the method's.
    ``within`` also evaluates inside each training, as the option ``eval_every`` says.
    """
    torch.manual_seed(0)
    benchmark = STREAMS[stream]()
    network = MODELS[model]()
    for parameter in network.parameters():
        parameter.data += shift
    torch.manual_seed(seed)
    watch, plugins = Watch(), plugins_of(method)
    first = [] if plain else [DistributedTraining()]
    optimizer: Any = (
        torch.optim.AdamW(network.parameters(), lr=1e-2)
        if adam
        else torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
    )
    strategy = kind(
        model=network,
        optimizer=optimizer,
        criterion=nn.CrossEntropyLoss(),
        plugins=[*first, *[make() for make in extra], *plugins, watch],
        evaluator=EvaluationPlugin(
            accuracy_metrics(minibatch=True, epoch=True, experience=True, stream=True),
            loss_metrics(epoch=True, experience=True),
            forgetting_metrics(experience=True, stream=True),
            confusion_matrix_metrics(stream=True, save_image=False),
            loggers=[],
        ),
        **{"train_mb_size": 25, "train_epochs": 2, "eval_mb_size": 25, **options},
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "hard_class_batches gives way")
        for experience in benchmark.train_stream:
            inner = [benchmark.test_stream] if within else []
            strategy.train(experience, eval_streams=inner, **(loading or {}))
            strategy.eval(benchmark.test_stream)
    return {
        "weights": {k: v.detach().clone() for k, v in strategy.model.state_dict().items()},
        "losses": watch.losses,
        "gradients": watch.gradients,
        "images": watch.images,
        "followed": watch.followed,
        "metrics": {
            name: values
            for name, (_, values) in strategy.evaluator.get_all_metrics().items()
            if "cache_hit_rate" not in name  # each rank's cache knows its own rows
        },
        "own": {
            f"{p.name}.{k}": v.detach().clone()
            for p in plugins
            if getattr(p, "optimizer", None) is not None
            for k, v in p.loss.state_dict().items()
        },
        "draws": [draw for p in strategy.plugins if isinstance(p, Draws) for draw in p.draws],
        "last_draw": torch.rand(2),
    }
