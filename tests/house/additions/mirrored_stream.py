"""The kind ``mirrored``: the first images of the embedded data sets, mirrored left to right."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from avalanche.benchmarks import (
    benchmark_from_datasets,
    task_incremental_benchmark,
    with_classes_timeline,
)
from avalanche.benchmarks.utils import as_classification_dataset

from avalanche_proxyfda.streams.files.images import list_hash
from benchmarks.config import Config
from benchmarks.config.streams import Mirrored
from benchmarks.streams.concepts.data import SPLITS, ImageSet, Split, concept, embedded_hash
from benchmarks.streams.stream import Stream
from benchmarks.streams.views import Views


def build(config: Config, views: Views) -> Stream:
    """Build the stream; the data sets hold inputs of tiny-clip, so ``views`` are not used."""
    assert isinstance(config.stream, Mirrored)
    names, most = config.stream.sets, config.stream.most
    tested, validated = (_benchmark(names, split, most) for split in ("test", "validation"))
    classes = tuple(concept(name, "train").classes for name in names)
    summary = {
        "stream": "mirrored",
        "split_sha256": list_hash([f"{name} {embedded_hash(name)} {most}" for name in names]),
        "sets": [
            {"name": name, "classes": len(words)}
            | {split: len(_mirrored(name, split, most)) for split in SPLITS}
            for name, words in zip(names, classes, strict=True)
        ],
    }
    return Stream(
        train=tested.train_stream,
        test=tested.test_stream,
        validation=validated.test_stream,
        classes=classes,
        tasks=True,
        grows=False,
        names=names,
        summary=summary,
    )


def scan(config: Config) -> tuple[int, dict[str, str]]:
    """No image is read: the data sets are drawn, not stored."""
    return 0, {}


def _mirrored(name: str, split: Split, most: int) -> ImageSet:
    data = concept(name, split)
    return replace(data, images=data.images[:most].flip(-1), targets=data.targets[:most])


def _benchmark(names: tuple[str, ...], split: Split, most: int) -> Any:
    train, test = (
        [as_classification_dataset(_mirrored(name, part, most)) for name in names]
        for part in ("train", split)
    )
    plain = benchmark_from_datasets(train=train, test=test)
    return with_classes_timeline(task_incremental_benchmark(plain))
