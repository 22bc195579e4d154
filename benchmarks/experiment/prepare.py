"""Builds and checks everything that a run needs, before its first step."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from avalanche_proxyfda._float64 import CPU
from avalanche_proxyfda.data.hard_class import HardClassBatches
from avalanche_proxyfda.models import Backbone
from benchmarks.config import Config
from benchmarks.experiment.data import load_data
from benchmarks.experiment.measure import device_of
from benchmarks.experiment.reference import Reference, load_reference
from benchmarks.methods.plugins import plugins_of, uses_reference
from benchmarks.models.backbone import build_backbone
from benchmarks.models.build import build_model, build_optimizer
from benchmarks.streams.panel import PanelData
from benchmarks.streams.stream import Stream


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
        epochs: number of epochs, by experience.
        reference: reference data; None if the method uses none.
    """

    device: torch.device
    backbone: Backbone
    stream: Stream
    panel: list[PanelData]
    model: Any
    optimizer: torch.optim.Optimizer
    epochs: list[int]
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
    _seed(config.seed)  # for random weights
    backbone = build_backbone(config)
    data = load_data(config, backbone)
    stream, panel = data.stream, data.panel
    check_batches(config, stream)
    _seed(config.seed)  # loading may have drawn random numbers
    model: Any = build_model(config, backbone, stream, CPU if only_check else device)
    if config.train.channels_last:
        model.to(memory_format=torch.channels_last)
    if not only_check:
        model.to(device)
    if config.train.compile and not only_check:
        model.compile()  # in place: names, heads and copies stay those of the plain model
    optimizer = build_optimizer(config, model)  # may freeze the tower
    reference = None
    if uses_reference(config):
        reference = load_reference(config, backbone, stream, model)
        _seed(config.seed)
    epochs = epochs_of(config, stream)
    return Prepared(device, backbone, stream, panel, model, optimizer, epochs, reference)


def _seed(seed: int) -> None:
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002 (the stream that transforms draw from)
    random.seed(seed)


def epochs_of(config: Config, stream: Stream) -> list[int]:
    """Return the number of epochs of each experience.

    Raises:
        ValueError: if ``train.epochs`` lists another number of experiences.
    """
    asked, count = config.train.epochs, len(stream.train)
    if isinstance(asked, int):
        return [asked] * count
    if len(asked) != count:
        raise ValueError(f"train.epochs has {len(asked)} entries, the stream {count} experiences")
    return list(asked)


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
        batches = HardClassBatches(train.classes_per_batch, train.samples_per_class, 0)
        m, n = batches.sizes(classes, train.batch)
        if m < 2 or m * n > train.batch:
            raise ValueError(
                f"train.samples_per_class={train.samples_per_class} leaves no room for two classes "
                f"in train.batch={train.batch}: lower it, or raise train.batch"
            )
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
    """Return the number of training steps of a run."""
    sizes, epochs = batch_sizes(config, stream), epochs_of(config, stream)
    return sum(
        count * -(-len(experience.dataset) // size)
        for experience, size, count in zip(stream.train, sizes, epochs, strict=True)
    )
