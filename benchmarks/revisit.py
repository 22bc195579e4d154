"""A run taken up again from its record: its images, its pre-trained and its tuned tower."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset
from tqdm import tqdm

from avalanche_proxyfda.features import pool_features
from benchmarks.config import Config, changed, complaint, read
from benchmarks.engine import state_hash
from benchmarks.measure import device_of
from benchmarks.prepare import Prepared, prepare
from benchmarks.record import Record
from benchmarks.record_files import RefusedRecordError, read_record
from benchmarks.streams.build import class_names, thinned, words_of
from benchmarks.streams.concepts import Split


def finished_record(path: Path) -> Record:
    """The record in a file, of a run that ended well.

    Raises:
        ValueError: when it is refused, or the run failed; the message begins with the file.
        OSError: when it cannot be read.
    """
    try:
        record = read_record(path)
    except RefusedRecordError as error:
        raise ValueError(f"{path}: {error}") from None
    if record.status != "finished":
        raise ValueError(f"{path}: the run failed ({record.reason}): there is no tuned model")
    return record


def config_of(record: Record) -> Config:
    """The record's configuration, to be taken up here: weights are kept, nothing is logged.

    Where the run's device is not there, another is taken.

    Raises:
        ValueError: when this version knows no such configuration.
    """
    try:
        config = read(record.config)
    except ValidationError as error:
        raise ValueError(f"the record's configuration: {complaint(error)}") from None
    where = replace(config.where, loggers=(), keep_weights=True)
    if "teacher_cache" not in record.config.get("where", {}):  # it was made without
        where = replace(where, teacher_cache="off")
    try:
        device_of(config)
    except ValueError:
        where = replace(where, device="auto")
    return changed(config, where=where)


def chosen_set(record: Record, asked: str | None) -> str:
    """The data set ``asked`` for; None: that of the panel that kept the fewest neighbours.

    Raises:
        ValueError: when the run has none of that name, or measured no panel to choose from.
    """
    assert record.panel is not None
    assert record.stream is not None
    assert record.outcome is not None
    names = dict.fromkeys((*record.panel, *record.stream.experiences))
    if asked is not None:
        if asked not in names:
            raise ValueError(f"--set {asked!r} is not of the run, which has {', '.join(names)}")
        return asked
    drift = record.outcome.panel[-1].drift if record.outcome.panel else {}
    kept = {name: values.get("neighbors") for name, values in drift.items()}
    known = {name: value for name, value in kept.items() if value is not None}
    if not known:
        raise ValueError(
            f"the run measured no panel to choose from: give --set, one of {', '.join(names)}"
        )
    return min(known, key=lambda name: known[name])


def pretrained(config: Config, record: Record) -> Prepared:
    """The run before its first step.

    Raises:
        ValueError: when the tower's weights are not those that the run began with.
        FileNotFoundError, ImportError, ConnectionError: as :func:`benchmarks.prepare.prepare`.
    """
    made = prepare(config)
    if state_hash(made.model.tower) != record.initial_tower_sha256:
        raise ValueError(
            f"the pre-trained weights of {config.backbone.name} are not those that the run began "
            "with (their SHA-256 differs from the record's): run it again with these"
        )
    return made


@dataclass(frozen=True, eq=False)
class Shown:
    """Images of one of the run's data sets.

    Attributes:
        name: of the data set.
        experience: which of the stream's it is, from 1; None for a set of the panel.
        images: as the tower takes them.
        rows: where each is in the split.
        labels: of each.
        classes: names by label.
    """

    name: str
    experience: int | None
    images: Dataset[Any]
    rows: tuple[int, ...]
    labels: tuple[int, ...]
    classes: tuple[str, ...]


def shown(made: Prepared, record: Record, name: str, split: Split, count: int) -> Shown:
    """At most ``count`` images of a data set of the run, classes in turn, always the same.

    Args:
        made: the run.
        record: its record.
        name: see :func:`chosen_set`.
        split: of the data set.
        count: at most.

    Raises:
        ValueError: for a split that is not there, or a data set that is not as it was for the run.
    """
    assert record.panel is not None
    assert record.stream is not None
    panel = {data.images.name: data for data in made.panel}
    images: Any
    if name in panel:
        found, experience = panel[name], None
        same = found.sha256 == record.panel[name].sha256
        images, classes = getattr(found.images, split), _words(found.classes)
    else:
        place = made.stream.names.index(name)
        experience = place + 1
        same = made.stream.summary["split_sha256"] == record.stream.split_sha256
        stream = getattr(made.stream, split)
        if stream is None:
            raise ValueError(f"--split {split}: the run's stream has none")
        images, classes = stream[place].dataset.eval(), _classes(made, place)
    if not same:
        raise ValueError(f"{name}: its images here are not those of the run (SHA-256 differs)")
    targets = _targets(images)
    rows = thinned(targets, count)
    labels = tuple(targets[row] for row in rows)
    return Shown(name, experience, Subset(images, rows), tuple(rows), labels, classes)


def _targets(data: Any) -> list[int]:
    """Labels, without reading an image."""
    if isinstance(data, Subset):
        inner = _targets(data.dataset)
        return [inner[row] for row in data.indices]
    held = data if hasattr(data, "targets") else data.data  # images of PIL through a view
    return [int(label) for label in held.targets]


def _classes(made: Prepared, place: int) -> tuple[str, ...]:
    stream = made.stream
    if not stream.grows:
        return _words(stream.classes[place if stream.tasks else 0])
    try:
        return class_names(stream)[0]
    except (ValueError, ImportError):
        return stream.classes[0]


def _words(names: tuple[str, ...]) -> tuple[str, ...]:
    try:
        return words_of(names)
    except ValueError:  # numbers for names: no texts, but good enough to be read
        return names


def _images(items: list[Any]) -> Tensor:
    return torch.stack([item[0] for item in items])


@torch.no_grad()
def features(tower: nn.Module, images: Shown, config: Config, device: torch.device) -> Tensor:
    """[N, D] float32 on the CPU: the tower's features, in eval mode."""
    loader = DataLoader(
        images.images, config.train.eval_batch, num_workers=config.train.workers, collate_fn=_images
    )
    tower.eval()
    return torch.cat([
        pool_features(tower(batch.to(device)), "tower").float().cpu()
        for batch in tqdm(loader, desc=images.name, delay=5, leave=False)
    ])  # fmt: skip
