"""Everything that a run needs, built and checked before the first step is paid for."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from avalanche_proxyfda.data.hard_class import HardClassBatches
from avalanche_proxyfda.models import Backbone
from benchmarks.config import Config
from benchmarks.experiment.measure import device_of
from benchmarks.methods.plugins import plugins_of
from benchmarks.models.backbone import build_backbone, build_views
from benchmarks.models.build import build_model, build_optimizer
from benchmarks.streams.panel import PanelData, load_panel
from benchmarks.streams.registry import load_stream
from benchmarks.streams.stream import Stream


@dataclass(frozen=True, eq=False)
class Prepared:
    """A run before its first step.

    Attributes:
        device: where it takes place.
        backbone: the pre-trained tower; it is the model's.
        stream: what is learnt.
        panel: what is probed.
        model: ``tower`` and ``head``, on the device.
        optimizer: of the model.
        epochs: of each experience.
    """

    device: torch.device
    backbone: Backbone
    stream: Stream
    panel: list[PanelData]
    model: Any
    optimizer: torch.optim.Optimizer
    epochs: list[int]


def prepare(config: Config, only_check: bool = False) -> Prepared:
    """Load and build what ``config`` asks for.

    Args:
        config: what to build.
        only_check: leave the model on the CPU and the accelerator alone, which the process that
            runs it may need for itself.

    Raises:
        FileNotFoundError, ImportError, ConnectionError, ValueError: when data, weights or
            settings are not what they should be.
    """
    device = device_of(config, touch=not only_check)
    _seed(config.seed)  # for weights that are random
    backbone = build_backbone(config)
    views = build_views(config, backbone)
    stream, panel = load_stream(config, views), load_panel(config, views)
    check_batches(config, stream)
    _seed(config.seed)  # whatever was drawn so far
    model: Any = build_model(config, backbone, stream)
    if config.train.channels_last:
        model.to(memory_format=torch.channels_last)
    if not only_check:
        model.to(device)
    optimizer = build_optimizer(config, model)  # which may freeze the tower
    return Prepared(device, backbone, stream, panel, model, optimizer, epochs_of(config, stream))


def _seed(seed: int) -> None:
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002 (the stream that transforms draw from)
    random.seed(seed)


def epochs_of(config: Config, stream: Stream) -> list[int]:
    """Epochs of each experience.

    Raises:
        ValueError: when ``train.epochs`` has another number of entries.
    """
    asked, count = config.train.epochs, len(stream.train)
    if isinstance(asked, int):
        return [asked] * count
    if len(asked) != count:
        raise ValueError(f"train.epochs has {len(asked)} entries, the stream {count} experiences")
    return list(asked)


def batch_sizes(config: Config, stream: Stream) -> list[int]:
    """Samples of a full batch, by experience.

    Raises:
        ValueError: when balanced batches are asked of an experience with one class.
    """
    train, sizes = config.train, []
    for experience in stream.train:
        classes = len(set(experience.classes_in_this_experience))
        if train.batches == "shuffled":
            sizes.append(train.batch)
            continue
        if classes < 2:
            raise ValueError(
                f"experience {experience.current_experience} has one class, so there are no "
                "classes to mix in a batch: set train.batches=shuffled"
            )
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
        ValueError: names the experience.
    """
    sizes = batch_sizes(config, stream)
    for plugin in plugins_of(config):
        neighbors = getattr(plugin, "loss_options", {}).get("num_neighbors", 0)
        if neighbors >= min(sizes):
            raise ValueError(
                f"options.num_neighbors={neighbors} must be below the {min(sizes)} samples of a "
                f"batch of experience {sizes.index(min(sizes))}: lower it, or raise train.batch"
            )


def planned_steps(config: Config, stream: Stream) -> int:
    """How many training steps the run will take."""
    sizes, epochs = batch_sizes(config, stream), epochs_of(config, stream)
    return sum(
        count * -(-len(experience.dataset) // size)
        for experience, size, count in zip(stream.train, sizes, epochs, strict=True)
    )
