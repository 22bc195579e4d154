"""A run restored from its record: its images, and the features of its tower."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset, default_collate
from tqdm import tqdm

from avalanche_proxyfda.features.pooling import pool_features
from benchmarks.config import Config, changed
from benchmarks.experiment.measure import device_of
from benchmarks.experiment.prepare import Prepared, prepare
from benchmarks.experiment.record import state_hash
from benchmarks.methods.plugins import checked
from benchmarks.reproduce.here import Here
from benchmarks.reproduce.recorded import RECORDED, config_in, for_repetition
from benchmarks.reproduce.same_images import check_images
from benchmarks.results.record import Record
from benchmarks.streams.concepts.data import Split
from benchmarks.streams.stream import Stream
from benchmarks.streams.thinning import thinned
from benchmarks.streams.words import class_names, words_of


def config_of(record: Record, here: Here = RECORDED, keep_weights: bool = True) -> Config:
    """Return the record's configuration for a repetition here.

    Nothing is logged. If the run's device does not exist, the device is chosen automatically.

    Args:
        record: record of the run.
        here: places of the data on this machine.
        keep_weights: True saves the weights, False needs the numbers alone.

    Raises:
        ValueError: if this version does not accept the configuration, or a place is not known.
    """
    config = checked(config_in(record, here), "the record's configuration")
    config = for_repetition(config, record, keep_weights)
    try:
        device_of(config)
    except ValueError:
        config = changed(config, where=replace(config.where, device="auto"))
    return config


def pretrained(config: Config, record: Record) -> Prepared:
    """Prepare the run, with the weights before its first step.

    Raises:
        ValueError: if the images or the tower's weights differ from those of the run.
        FileNotFoundError, ImportError, ConnectionError: see
            :func:`benchmarks.experiment.prepare.prepare`.
    """
    prepared = prepare(config)
    check_images(prepared, record)
    if state_hash(prepared.model.tower) != record.initial_tower_sha256:
        raise ValueError(
            f"the pre-trained weights of {config.backbone.name} are not the run's initial weights "
            "(their SHA-256 differs from the record's): run it again with these weights"
        )
    return prepared


@dataclass(frozen=True, eq=False)
class Shown:
    """Images of a data set of the run.

    Attributes:
        name: name of the data set.
        experience: number of the stream's experience, from 1; None for a set of the panel.
        images: inputs of the tower, with labels.
        rows: [N] indices of the images in the split.
        labels: [N] labels of the images.
        classes: class names by label.
        source: the images as they are stored, in the order of the split; None if unknown.
    """

    name: str
    experience: int | None
    images: Dataset[Any]
    rows: tuple[int, ...]
    labels: tuple[int, ...]
    classes: tuple[str, ...]
    source: Any = None


def shown(prepared: Prepared, record: Record, name: str, split: Split, count: int) -> Shown:
    """Choose at most ``count`` images of a data set; classes take turns.

    The choice is always the same.

    Args:
        prepared: the run before its first step.
        record: record of the run.
        name: name of the data set; see :func:`~benchmarks.reproduce.recorded.chosen_set`.
        split: split of the data set.
        count: largest number of images.

    Raises:
        ValueError: if the split does not exist.
    """
    assert record.panel is not None
    assert record.stream is not None
    panel = {data.images.name: data for data in prepared.panel}
    images: Any
    if name in panel:
        data, experience = panel[name], None
        images, classes = getattr(data.images, split), _words(data.classes)
        source = data.sources.get(split)
    else:
        place = prepared.stream.names.index(name)
        experience = place + 1
        stream = getattr(prepared.stream, split)
        if stream is None:
            raise ValueError(f"--split {split}: the run's stream has none; give --split test")
        images, classes = stream[place].dataset.eval(), _classes(prepared.stream, place)
        sources = prepared.stream.sources
        source = sources[place].get(split) if sources else None
    targets = _targets(images)
    rows = thinned(targets, count)
    labels = tuple(targets[row] for row in rows)
    if source is not None:
        source = _aligned(source, targets)
    return Shown(name, experience, Subset(images, rows), tuple(rows), labels, classes, source)


def _aligned(source: Any, targets: list[int]) -> Any:
    """The stored images in the order of ``targets``: Avalanche may have grouped them by class."""
    rows: dict[int, list[int]] = {}
    for row, label in reversed(list(enumerate(_targets(source)))):
        rows.setdefault(label, []).append(row)
    order = [rows[label].pop() for label in targets]
    return source if order == list(range(len(order))) else Subset(source, order)


def origin(source: Any, row: int) -> tuple[Any, int]:
    """The data set that stores an image of ``source``, and the image's row there."""
    while isinstance(source, Subset):
        source, row = source.dataset, source.indices[row]
    return source, row


def stored_image(source: Any, row: int) -> Any:
    """An image as it is stored: an RGB image of PIL, or an input of tiny-clip."""
    data, row = origin(source, row)
    return data[row][0]


def _targets(data: Any) -> list[int]:
    """Labels of a data set; no image is read."""
    if isinstance(data, Subset):
        inner = _targets(data.dataset)
        return [inner[row] for row in data.indices]
    source = data if hasattr(data, "targets") else data.data  # images of PIL through a view
    return [int(label) for label in source.targets]


def _classes(stream: Stream, place: int) -> tuple[str, ...]:
    if not stream.grows:
        return _words(stream.classes[place if stream.tasks else 0])
    try:
        return class_names(stream)[0]
    except (ValueError, ImportError):
        return stream.classes[0]


def _words(names: tuple[str, ...]) -> tuple[str, ...]:
    try:
        return words_of(names)
    except ValueError:  # numbers for names do for a legend
        return names


def _images(items: list[Any]) -> Any:
    return default_collate([item[0] for item in items])


@torch.no_grad()
def features(tower: nn.Module, images: Shown, config: Config, device: torch.device) -> Tensor:
    """Compute the tower's features in eval mode.

    Args:
        tower: tower of the model, on ``device``.
        images: N images.
        config: configuration with the batch size and the workers.
        device: device of the tower.

    Returns:
        [N, D] float32 on the CPU.
    """
    loader = DataLoader(
        images.images, config.train.eval_batch, num_workers=config.train.workers, collate_fn=_images
    )
    tower.eval()
    return torch.cat(
        [
            pool_features(tower(batch.to(device)), "tower").float().cpu()
            for batch in tqdm(loader, desc=images.name, delay=5, leave=False)
        ]
    )
