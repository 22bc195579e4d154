"""Builds and checks everything that a run needs, before its first step."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch

from avalanche_proxyfda._accelerator import choose_device
from avalanche_proxyfda._float64 import CPU
from avalanche_proxyfda.data.hard_class import HardClassBatches
from avalanche_proxyfda.models import Backbone
from avalanche_proxyfda.strategies.budget import batches_of_steps, epochs_of_steps
from benchmarks.config import Config
from benchmarks.experiment.data import load_data
from benchmarks.experiment.measure import device_of
from benchmarks.experiment.reference import Reference, load_reference
from benchmarks.methods.plugins import plugins_of, uses_reference
from benchmarks.models.backbone import build_backbone
from benchmarks.models.build import build_model, build_optimizer
from benchmarks.streams.panel import PanelData
from benchmarks.streams.stream import Stream
from benchmarks.streams.texts.lookup import check_texts

Number = TypeVar("Number", int, float)


@dataclass(frozen=True, eq=False)
class Prepared:
    """A run before its first step.

    Attributes:
        device: device of the training.
        backbone: pre-trained tower, which the model contains.
        stream: experiences to learn.
        panel: data sets for probes.
        model: model with the parts ``tower`` and ``head``, on the device.
        optimizer: optimizer of the model.
        epochs: number of epochs, by experience; the last may be partial.
        steps: number of optimizer steps, by experience; None for whole epochs.
        factors: factor of the peak rates, by experience.
        reference: reference data; None if the method uses none.
    """

    device: torch.device
    backbone: Backbone
    stream: Stream
    panel: list[PanelData]
    model: Any
    optimizer: torch.optim.Optimizer
    epochs: list[int]
    steps: list[int | None]
    factors: list[float]
    reference: Reference | None = None


def prepare(config: Config, only_check: bool = False) -> Prepared:
    """Load and build the parts of a run.

    Args:
        config: configuration of the run.
        only_check: True leaves the model on the CPU, so that an accelerator stays free for the
            process that trains.

    Raises:
        FileNotFoundError, ImportError, ConnectionError, ValueError: if data, weights or settings
            are missing or refused.
    """
    device = device_of(config, touch=not only_check)
    if device.index is not None and not only_check:
        choose_device(device)  # torch pins memory by the present device
    _seed(config.seed)  # for random weights
    backbone = build_backbone(config)
    data = load_data(config, backbone)
    stream, panel = data.stream, data.panel
    check_batches(config, stream)
    if backbone.clip is not None and backbone.tokenizer is not None:
        check_texts(config, stream, panel)
    _seed(config.seed)  # loading may have drawn random numbers
    model: Any = build_model(config, backbone, stream, CPU if only_check else device)
    if config.train.channels_last:
        model.to(memory_format=torch.channels_last)
    if not only_check:
        model.to(device)
    if config.train.compile and not only_check:
        # in place, so that names and copies stay those of the plain model; the code of a whole
        # model depends on the task, and torch compiles eight variants and no more. Code of an
        # earlier run of this process has other hooks, and counts among the eight
        torch.compiler.reset()
        model.tower.compile()
    optimizer = build_optimizer(config, model)  # may freeze the tower
    reference = None
    if uses_reference(config):
        reference = load_reference(config, backbone, stream, model)
        _seed(config.seed)
    plan = epochs_of(config, stream), steps_of(config, stream), factors_of(config, stream)
    return Prepared(device, backbone, stream, panel, model, optimizer, *plan, reference)


def _seed(seed: int) -> None:
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002 (the stream that transforms draw from)
    random.seed(seed)


def epochs_of(config: Config, stream: Stream) -> list[int]:
    """Return the number of epochs of each experience; with ``train.steps``, the last is partial.

    Raises:
        ValueError: if ``train.epochs`` or ``train.steps`` lists another number of experiences.
    """
    steps, accumulate = steps_of(config, stream), config.train.accumulate
    whole = _for_each("epochs", config.train.epochs, stream)
    return [
        epochs if count is None else epochs_of_steps(count, batches, accumulate)
        for epochs, count, batches in zip(
            whole, steps, _batches_of_epochs(config, stream), strict=True
        )
    ]


def steps_of(config: Config, stream: Stream) -> list[int | None]:
    """Return the number of optimizer steps of each experience; None for whole epochs.

    Raises:
        ValueError: if ``train.steps`` lists another number of experiences.
    """
    asked = config.train.steps
    return [None] * len(stream.train) if asked is None else [*_for_each("steps", asked, stream)]


def factors_of(config: Config, stream: Stream) -> list[float]:
    """Return the factor of the peak rates in each experience.

    Raises:
        ValueError: if ``train.lr_factors`` lists another number of experiences, or names a data
            set that the stream does not learn.
    """
    asked = config.train.lr_factors
    if isinstance(asked, dict):
        return _by_set(config, asked)
    return _for_each("lr_factors", 1.0 if asked is None else asked, stream)


def _by_set(config: Config, factors: Mapping[str, float]) -> list[float]:
    """Return the factor of each data set of the stream; 1 for those that are not named."""
    learnt: tuple[str, ...] = getattr(config.stream, "learnt", ())
    unknown = [name for name in factors if name not in learnt]
    if unknown:
        raise ValueError(
            f"train.lr_factors names {', '.join(unknown)}, and the stream learns "
            f"{', '.join(learnt) or 'no data sets with names'}: name sets of the stream, or list "
            "one factor for each experience"
        )
    return [factors.get(name, 1.0) for name in learnt]


def _for_each(key: str, asked: Number | tuple[Number, ...], stream: Stream) -> list[Number]:
    """Return a value of ``train`` for each experience."""
    count = len(stream.train)
    if not isinstance(asked, tuple):
        return [asked] * count
    if len(asked) != count:
        raise ValueError(
            f"train.{key} has {len(asked)} entries, and the stream has {count} experiences: give "
            "one for each, or a single number"
        )
    return list(asked)


def _batches_of_epochs(config: Config, stream: Stream) -> list[int]:
    """Return the number of batches in an epoch of each experience."""
    sizes = batch_sizes(config, stream)
    return [-(-len(each.dataset) // size) for each, size in zip(stream.train, sizes, strict=True)]


def batch_sizes(config: Config, stream: Stream) -> list[int]:
    """Return the number of samples of a full batch, by experience.

    An experience with one class has shuffled batches.

    Raises:
        ValueError: for a balanced batch without room for two classes.
    """
    train, sizes = config.train, []
    for experience in stream.train:
        classes = len(set(experience.classes_in_this_experience))
        if train.batches == "shuffled" or classes < 2:
            sizes.append(train.batch)
            continue
        if train.batch < 2 * (train.samples_per_class or 1):
            raise ValueError(
                f"train.samples_per_class={train.samples_per_class} leaves no room for two classes "
                f"in train.batch={train.batch}: lower it, or raise train.batch"
            )
        batches = HardClassBatches(train.classes_per_batch, train.samples_per_class, 0)
        m, n = batches.sizes(classes, train.batch)
        sizes.append(m * n)
    return sizes


def check_batches(config: Config, stream: Stream) -> None:
    """Refuse batches that are too small for the method.

    Raises:
        ValueError: if a batch has no more samples than ``options.num_neighbors``.
    """
    sizes = batch_sizes(config, stream)
    for plugin in plugins_of(config):
        neighbors = getattr(plugin, "num_neighbors", None)
        if neighbors is not None and neighbors >= min(sizes):
            raise ValueError(
                f"options.num_neighbors={neighbors} must be below the {min(sizes)} samples of a "
                f"batch of experience {sizes.index(min(sizes))}: lower it, or raise train.batch"
            )


def planned_steps(config: Config, stream: Stream) -> int:
    """Return the number of training steps of a run; with ``train.accumulate``, of batches."""
    epochs, steps = epochs_of(config, stream), steps_of(config, stream)
    batches, accumulate = _batches_of_epochs(config, stream), config.train.accumulate
    return sum(
        whole * length if count is None else batches_of_steps(count, length, accumulate)
        for whole, count, length in zip(epochs, steps, batches, strict=True)
    )
