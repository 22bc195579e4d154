"""What takes part in a measurement: a method on a model, as an Avalanche strategy that steps."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from avalanche.benchmarks import benchmark_from_datasets
from avalanche.benchmarks.utils import as_classification_dataset
from avalanche.evaluation.metrics import accuracy_metrics, loss_metrics
from avalanche.training import Naive
from avalanche.training.plugins import EvaluationPlugin
from torch import Tensor, nn
from torch.utils.data import Dataset

from avalanche_proxyfda import EfficientNaive, LPFTPlugin
from avalanche_proxyfda.models import load_backbone
from benchmarks import tiny_clip
from benchmarks.methods.plugins import arguments_of, make_plugins
from benchmarks.methods.registry import METHODS
from benchmarks.perf.stepping import Stepper, share_memory

TINY = "tiny-clip"
PLAIN = "finetune"
UNITS = 100  # of the head
_ENDLESS = 10**6  # epochs
_STRENGTHS = {"wise-ft": 0.5}  # the others: 1


@dataclass(frozen=True)
class Arm:
    """One line of a measurement.

    Attributes:
        name: in tables.
        method: of :data:`benchmarks.methods.METHODS`.
        options: of its plugin.
    """

    name: str
    method: str
    options: Mapping[str, Any] = field(default_factory=dict)


def arm_of(name: str) -> Arm:
    """``"METHOD"``, with a live teacher if it has one, or ``"METHOD, cached"``.

    Raises:
        ValueError: for an unknown method, or a cache for a method without a teacher.
    """
    method, _, cached = name.partition(", ")
    again = method.removesuffix(" again")
    if again not in METHODS or cached not in ("", "cached"):
        raise ValueError(
            f"arm {name!r} is unknown: give a method ({', '.join(METHODS)}), or one with a "
            "teacher and ', cached' behind it"
        )
    given: dict[str, Any] = {}
    if again == "lwf":  # which otherwise has nothing to keep in a first experience
        given["known_classes"] = tuple(range(UNITS))
    has_cache = "teacher_cache" in arguments_of(again)
    if cached and not has_cache:
        raise ValueError(f"arm {name!r}: {again} has no teacher that could be cached")
    if has_cache:
        given["teacher_cache"] = "exact" if cached else "off"
    return Arm(name, again, given)


@dataclass(frozen=True)
class Setting:
    """What all arms of a measurement have in common.

    Attributes:
        model: ``"tiny-clip"``, or an architecture of open_clip, with random weights.
        batch: B.
        batches: different batches of images; an epoch.
        precision: as ``train.precision`` of the runner.
        device: of the training.
        workers: of the loader.
        seed: of images, weights, batches and turns.
    """

    model: str = "ViT-B-32"
    batch: int = 64
    batches: int = 1
    precision: str = "float32"
    device: str = "cpu"
    workers: int = 0
    seed: int = 0


class MemoryImages(Dataset[tuple[Tensor, int]]):
    """Images of noise that lie in memory, as input of the model.

    Args:
        count: how many.
        side: of an image, in pixels.
        classes: their labels, in turn.
        seed: of the noise.
    """

    def __init__(self, count: int, side: int, classes: int, seed: int) -> None:
        source = torch.Generator().manual_seed(seed)
        self.images = torch.randn(count, 3, side, side, generator=source)
        self.targets = [k % classes for k in range(count)]

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.images[index], self.targets[index]


def tower_of(name: str, seed: int) -> tuple[nn.Module, int, int]:
    """An image tower, the width of its embeddings, and the side of its images.

    Raises:
        ValueError: for an architecture that open_clip does not have.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if name == TINY:
            return tiny_clip.load().visual, 128, 32
        made = load_backbone(f"open_clip:{name}", weights="random")
    side: Any = made.tower.image_size
    return made.tower, made.dim, int(side[0] if isinstance(side, Sequence) else side)


class Bench:
    """The model and the images of a setting, from which strategies are made.

    Args:
        setting: what all arms share.
    """

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        tower, dim, side = tower_of(setting.model, setting.seed)
        head = nn.Linear(dim, UNITS)
        self.model = nn.Sequential(OrderedDict(tower=tower, head=head)).train()
        classes = max(2, min(16, setting.batch // 4))
        images = MemoryImages(setting.batch * setting.batches, side, classes, setting.seed)
        stream: Any = benchmark_from_datasets(train=[as_classification_dataset(images)])
        (self.experience,) = stream.train_stream

    def strategy(self, arm: Arm, last: Sequence[Any] = (), first: Sequence[Any] = ()) -> Any:
        """A strategy of its own for an arm: a copy of the model, AdamW, accuracy and loss.

        Args:
            arm: the method and its options.
            last: plugins after the method's.
            first: plugins before it.
        """
        setting, model = self.setting, copy.deepcopy(self.model)
        method = METHODS[arm.method]
        strength = _STRENGTHS.get(arm.method, 1.0) if method.knob else None
        plugins: list[Any] = [*first, *([LPFTPlugin()] if arm.method == "lp-ft" else [])]
        plugins += make_plugins(arm.method, strength, "previous", setting.seed, arm.options)
        plain = setting.precision == "float32"
        kind: Any = Naive if plain else EfficientNaive
        return kind(
            model=model,
            optimizer=torch.optim.AdamW(model.parameters(), lr=1e-6, weight_decay=0.1),
            criterion=nn.CrossEntropyLoss(),
            train_mb_size=setting.batch,
            eval_mb_size=setting.batch,
            device=torch.device(setting.device),
            plugins=[*plugins, *last],
            evaluator=EvaluationPlugin(
                accuracy_metrics(epoch=True), loss_metrics(epoch=True), loggers=[]
            ),
            **({} if plain else {"precision": setting.precision}),
        )

    def train(self, strategy: Any) -> None:
        """Learn the images, epoch after epoch."""
        strategy.train_epochs = _ENDLESS
        strategy.train(
            self.experience, eval_streams=[], num_workers=self.setting.workers,
            persistent_workers=self.setting.workers > 0,
        )  # fmt: skip

    @property
    def warm_up(self) -> int:
        """Steps until every arm has met all images: an epoch."""
        return self.setting.batches

    @contextmanager
    def started(
        self, arms: Sequence[Arm], spread: Callable[[], Any] | None = None
    ) -> Iterator[tuple[dict[str, Stepper], dict[str, Any]]]:
        """Steppers and strategies of arms by name, at work until the end of the block.

        Args:
            arms: what takes part.
            spread: makes the plugin that spreads a strategy over ranks; None on one process.
        """
        share_memory()
        device = torch.device(self.setting.device)
        steppers = {arm.name: Stepper(device) for arm in arms}
        strategies = {
            arm.name: self.strategy(arm, [steppers[arm.name]], [spread()] if spread else [])
            for arm in arms
        }
        for name, stepper in steppers.items():
            stepper.start(lambda name=name: self.train(strategies[name]))  # type: ignore[misc]
        try:
            yield steppers, strategies
        finally:
            for stepper in steppers.values():
                stepper.close()
