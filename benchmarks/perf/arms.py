"""Arms of a measurement: each is a method on a model, as an Avalanche strategy that steps."""

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
from avalanche_proxyfda.data.reference import ReferenceData
from avalanche_proxyfda.models import load_backbone
from benchmarks.experiment.training import KeptInEval
from benchmarks.methods.combined import check_companions, parts_of
from benchmarks.methods.plugins import arguments_of, make_plugins, needs_reference
from benchmarks.methods.registry import METHODS
from benchmarks.models import tiny_clip
from benchmarks.perf.options import Setting
from benchmarks.perf.stepping import Stepper, share_memory

TINY = "tiny-clip"
PLAIN = "finetune"
UNITS = 100  # outputs of the head
TEXTS = 80  # reference texts, as many as Lipsum-FT's random strings
_ENDLESS = 10**6  # epochs


@dataclass(frozen=True)
class Arm:
    """One arm of a measurement.

    Attributes:
        name: name in tables.
        method: key of :data:`benchmarks.methods.registry.METHODS`.
        options: options of the method's plugin.
        companions: options of the plugins of further methods that train beside it, by method.
    """

    name: str
    method: str
    options: Mapping[str, Any] = field(default_factory=dict)
    companions: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def arm_of(name: str) -> Arm:
    """Make an arm from its name.

    Args:
        name: ``"METHOD"``, with an uncached teacher if the method has a teacher, or
            ``"METHOD, cached"``. ``"METHOD again"`` is one more arm of the same method, and
            ``"METHOD + METHOD"`` trains with both. Only the methods with a teacher cache it.

    Raises:
        ValueError: if a method is unknown, or none of them has a teacher to cache.
    """
    words, _, cached = name.partition(", ")
    methods = parts_of(words.removesuffix(" again"))
    if any(method not in METHODS for method in methods) or cached not in ("", "cached"):
        raise ValueError(
            f"arm {name!r} is unknown: give a method ({', '.join(METHODS)}), or a method with a "
            "teacher and ', cached' behind it"
        )
    method, *others = methods
    check_companions(method, dict.fromkeys(others, 1.0))
    if cached and not any("teacher_cache" in arguments_of(each) for each in methods):
        raise ValueError(f"arm {name!r}: {words} has no teacher that could be cached")
    options = {each: _options(each, bool(cached)) for each in methods}
    return Arm(name, method, options[method], {each: options[each] for each in others})


def _options(method: str, cached: bool) -> dict[str, Any]:
    """Return the options of a method's plugin in an arm."""
    options: dict[str, Any] = {}
    arguments = arguments_of(method)
    if "known_classes" in arguments:  # else the first experience has no known class
        options["known_classes"] = tuple(range(UNITS))
    if "teacher_cache" in arguments:
        options["teacher_cache"] = "exact" if cached else "off"
    return options


def strength_of(method: str) -> float | None:
    """Strength of a method in measurements; None for a method without a knob.

    The strength is 1, or the method's usual strength if 1 is outside the method's grid.
    """
    known = METHODS[method]
    if known.knob is None:
        return None
    return 1.0 if known.grid[0] <= 1 <= known.grid[-1] else known.strength


class MemoryImages(Dataset[tuple[Tensor, int]]):
    """Images of noise in memory, [3, side, side] float32 each.

    Args:
        count: number of images.
        side: side of an image, in pixels.
        classes: number of classes; labels take turns.
        seed: seed of the noise.
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
    """Load an image tower.

    Args:
        name: see :class:`~benchmarks.perf.options.Setting`.
        seed: seed of the random weights.

    Returns:
        The tower, the width of its embeddings, and the side of its images in pixels.

    Raises:
        ValueError: if open_clip has no such architecture.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if name == TINY:
            return tiny_clip.load().visual, 128, 32
        backbone = load_backbone(f"open_clip:{name}", weights="random")
    side: Any = backbone.tower.image_size
    return backbone.tower, backbone.dim, int(side[0] if isinstance(side, Sequence) else side)


class Bench:
    """The model and the images of a setting; it makes the strategies of the arms.

    Args:
        setting: settings that all arms share.
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
        unlabelled = MemoryImages(setting.batch, side, classes, setting.seed + 1)
        texts = torch.randn(TEXTS, dim, generator=torch.Generator().manual_seed(setting.seed))
        self.reference_data = ReferenceData(unlabelled, texts, batch=setting.batch)

    def strategy(self, arm: Arm, last: Sequence[Any] = (), first: Sequence[Any] = ()) -> Any:
        """Make the strategy of an arm, with a copy of the model, AdamW, accuracy and loss.

        Args:
            arm: method and options.
            last: plugins after the method's plugin.
            first: plugins before the method's plugin.
        """
        setting = self.setting
        model: Any = copy.deepcopy(self.model)
        plugins: list[Any] = [*first, *([LPFTPlugin()] if arm.method == "lp-ft" else [])]
        if not METHODS[arm.method].trains_tower:
            model.tower.requires_grad_(False)
            plugins.append(KeptInEval(all_of_it=True))
        for method, given in {arm.method: arm.options, **arm.companions}.items():
            options = dict(given)
            if needs_reference(method):
                options["reference_data"] = self.reference_data
            plugins += make_plugins(method, strength_of(method), "previous", setting.seed, options)
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
        """Train on the images, epoch after epoch, until the stepper ends the training."""
        strategy.train_epochs = _ENDLESS
        strategy.train(
            self.experience,
            eval_streams=[],
            num_workers=self.setting.workers,
            persistent_workers=self.setting.workers > 0,
        )

    @property
    def warm_up(self) -> int:
        """Steps of an epoch, after which every arm has seen all images."""
        return self.setting.batches

    @contextmanager
    def started(
        self, arms: Sequence[Arm], first: Callable[[], Any] | None = None
    ) -> Iterator[tuple[dict[str, Stepper], dict[str, Any]]]:
        """Start the trainings of arms; the end of the block ends them.

        Args:
            arms: arms to start.
            first: makes a plugin that each strategy has before the method's; None for none.

        Yields:
            Steppers and strategies, by name of the arm.
        """
        share_memory()
        device = torch.device(self.setting.device)
        steppers = {arm.name: Stepper(device) for arm in arms}
        strategies = {
            arm.name: self.strategy(arm, [steppers[arm.name]], [first()] if first else [])
            for arm in arms
        }
        for name, stepper in steppers.items():
            stepper.start(lambda name=name: self.train(strategies[name]))  # type: ignore[misc]
        try:
            yield steppers, strategies
        finally:
            for stepper in steppers.values():
                stepper.close()
