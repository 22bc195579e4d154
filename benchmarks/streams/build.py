"""The stream and the panel that a configuration asks for, ready to be learnt and measured."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from torch.utils.data import Dataset, Subset

from avalanche_proxyfda.metrics import Panel, PanelSet
from benchmarks.backbones import Views
from benchmarks.config import Concepts, Config, ImageNetR, Sequence
from benchmarks.streams import datasets
from benchmarks.streams.concepts import KINDS, Split, concept, concepts
from benchmarks.streams.dataset_sequence import Transform, dataset_sequence
from benchmarks.streams.download import download
from benchmarks.streams.images import list_hash
from benchmarks.streams.split_imagenet_r import split_imagenet_r

SPLITS: tuple[Split, ...] = ("train", "validation", "test")
EMBEDDED = ("digits", *KINDS)


@dataclass(frozen=True, eq=False)
class Stream:
    """What is learnt.

    Attributes:
        train: Avalanche's experiences, in order.
        test: as ``train``, with the test split.
        validation: as ``train``, with the validation split; None without one.
        classes: names by label; of each task where tasks have labels of their own, else of
            the one label space.
        tasks: whether tasks have labels of their own.
        grows: whether an experience brings new classes to the one label space.
        names: of the experiences.
        summary: what was built, for the record.
    """

    train: Any
    test: Any
    validation: Any
    classes: tuple[tuple[str, ...], ...]
    tasks: bool
    grows: bool
    names: tuple[str, ...]
    summary: dict[str, Any]


def load_stream(config: Config, views: Views) -> Stream:
    """The stream of ``config``, with images as ``views`` show them.

    Raises:
        FileNotFoundError, ValueError: when data are not there, or not what they should be.
    """
    if isinstance(config.stream, Concepts):
        if config.backbone.name != "tiny-clip":
            raise ValueError(
                f"backbone.name={config.backbone.name!r}: the concepts stream holds inputs of "
                "tiny-clip"
            )
        return _concepts(config.stream.sets)
    if isinstance(config.stream, Sequence):
        return _sequence(config, config.stream, views)
    return _imagenet_r(config, config.stream, views)


def _concepts(sets: tuple[str, ...]) -> Stream:
    test = concepts("test", sets)
    parts = [concept(name, "train") for name in sets]
    hashes = {name: _embedded_hash(name) for name in sets}
    summary = {
        "stream": "concepts",
        "split_sha256": list_hash([f"{name} {value}" for name, value in hashes.items()]),
        "sets": [
            {"name": p.name, "classes": len(p.classes), "splits": "drawn from disjoint seeds"}
            | {s: len(concept(p.name, s)) for s in SPLITS}
            for p in parts
        ],
    }
    return Stream(
        test.train_stream, test.test_stream, concepts("validation", sets).test_stream,
        tuple(p.classes for p in parts), True, False, sets, summary,
    )  # fmt: skip


@cache
def _embedded_hash(name: str) -> str:
    """Of the labels: pixels are drawn, and differ in the last bit from machine to machine."""
    return list_hash(
        [f"{s} {k} {y}" for s in SPLITS for k, y in enumerate(concept(name, s).targets)]
    )


def _sequence(config: Config, asked: Sequence, views: Views) -> Stream:
    sets = [load_set(config, name, asked) for name in asked.sets]
    dropped: dict[str, str] = {}
    if asked.on_corrupt == "drop":
        kept = [datasets.without_broken(data) for data in sets]
        sets = [data for data, _ in kept]
        dropped = {where: reason for _, found in kept for where, reason in found.items()}
    made = dataset_sequence(sets, views.train, views.evaluation, asked.shared_labels, "test")
    validation = dataset_sequence(
        sets, views.train, views.evaluation, asked.shared_labels, "validation"
    )
    classes = tuple(data.classes for data in sets)
    names = tuple(data.name.partition(":")[2] or data.name for data in sets)
    hashed = list_hash([f"{data.name} {data.sha256}" for data in sets])
    return Stream(
        made.train_stream, made.test_stream, validation.test_stream,
        classes[:1] if asked.shared_labels else classes, not asked.shared_labels, False, names,
        {**made.summary, "split_sha256": hashed, "dropped": dropped},
    )  # fmt: skip


def load_set(config: Config, name: str, asked: Any = None) -> datasets.DataSet:
    """A data set of the configuration, with the splits that its stream's options say."""
    share = getattr(asked or config.stream, "validation_share", 0.0) or 0.1
    seed = getattr(asked or config.stream, "validation_seed", 0)
    download = getattr(asked or config.stream, "download", False)
    return datasets.load(name, config.at(""), share, seed, download)


def _imagenet_r(config: Config, asked: ImageNetR, views: Views) -> Stream:
    fetch(config, asked)
    lists = asked.lists and (config.at(asked.lists[0]), config.at(asked.lists[1]))
    made = split_imagenet_r(
        config.at(asked.root), asked.num_experiences, asked.split, asked.order, lists,
        views.train, views.evaluation, asked.on_corrupt, validation_share=asked.validation_share,
    )  # fmt: skip
    wnids = made.summary["wnids"]
    names = tuple(f"classes {e.current_experience}" for e in made.train_stream)
    streams = made.train_stream, made.test_stream, made.validation_stream
    return Stream(*streams, (tuple(wnids),), False, True, names, made.summary)


def fetch(config: Config, asked: ImageNetR) -> None:
    """Download the archive if it is asked for and not there."""
    root, where = config.at(asked.root), config.where
    if where.url is None or root.exists():
        return
    if not root.name.endswith((".tar", ".tar.gz", ".tgz")):
        raise ValueError(
            f"where.url is an archive, but stream.root={asked.root!r} is not called like one: set "
            "stream.root=imagenet-r.tar"
        )
    download(where.url, root, where.sha256, where.md5)


@dataclass(frozen=True, eq=False)
class PanelData:
    """A data set to be probed.

    Attributes:
        images: as the tower takes them, with labels.
        counts: images by split.
        sha256: which images those are.
        dropped: which were left out as broken, and why.
        classes: names by label.
    """

    images: PanelSet
    counts: dict[Split, int]
    sha256: str
    dropped: dict[str, str]
    classes: tuple[str, ...]


class _Seen(Dataset[tuple[Any, int]]):
    """Images of PIL through a view."""

    def __init__(self, data: datasets.Labelled, view: Transform) -> None:
        self.data, self.view = data, view

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        image, label = self.data[index]
        return self.view(image), label


def load_panel(config: Config, views: Views) -> list[PanelData]:
    """The panel of ``config``: at most ``panel.train`` and ``panel.test`` images a split.

    Fewer are chosen class by class in turn, the same for every method and seed.
    """
    panel = [_panel_set(config, name, views) for name in config.panel.sets]
    if panel:
        Panel([data.images for data in panel])  # refuses names that repeat
    return panel


def _panel_set(config: Config, name: str, views: Views) -> PanelData:
    limits = {"train": config.panel.train}
    dropped: dict[str, str] = {}
    if name in EMBEDDED:
        if config.backbone.name != "tiny-clip":
            raise ValueError(f"panel.sets: {name!r} holds inputs of tiny-clip alone")
        parts: Any = {split: concept(name, split) for split in SPLITS}
        identity, seen, classes = _embedded_hash(name), parts, parts["train"].classes
    else:
        data = load_set(config, name)
        if getattr(config.stream, "on_corrupt", "raise") == "drop":
            data, dropped = datasets.without_broken(data)
        parts = {split: getattr(data, split) for split in SPLITS}
        identity, classes = data.sha256, data.classes
        seen = {split: _Seen(part, views.evaluation) for split, part in parts.items()}
    images: dict[Split, Any] = {}
    labels: dict[Split, set[int]] = {}
    for split in SPLITS:
        rows = thinned(parts[split].targets, limits.get(split, config.panel.test))
        images[split] = Subset(seen[split], rows)
        labels[split] = {int(parts[split].targets[r]) for r in rows}
    strange = sorted((labels["validation"] | labels["test"]) - labels["train"])
    if strange or len(labels["train"]) < 2:
        raise ValueError(
            f"panel.sets: {name} has no training image of its classes {strange[:5]}, or one class "
            f"alone: raise panel.train={config.panel.train}"
        )
    counts = {split: len(images[split]) for split in SPLITS}
    word = (name.partition(":")[2] or name).replace("/", "_")
    return PanelData(
        PanelSet(word, **images),
        counts,
        list_hash([f"{identity} {list(counts.values())}"]),
        dropped,
        tuple(classes),
    )


def thinned(targets: Any, count: int | None) -> list[int]:
    """At most ``count`` rows, classes in turn, each class's by lot (always the same), sorted."""
    labels = np.asarray(targets)
    if count is None or count >= len(labels):
        return list(range(len(labels)))
    lot = np.random.default_rng(20260).permutation(len(labels))
    rank = np.empty(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        rows = lot[labels[lot] == label]
        rank[rows] = np.arange(len(rows))
    return sorted(int(r) for r in np.lexsort((labels, rank))[:count])


def class_names(stream: Stream) -> tuple[tuple[str, ...], ...]:
    """Words for the classes, for texts; WordNet ids become ImageNet's names.

    Raises:
        ValueError: for a WordNet id that ImageNet does not have.
    """
    if not stream.grows:
        return tuple(words_of(names) for names in stream.classes)
    from open_clip import IMAGENET_CLASSNAMES
    from timm.data import ImageNetInfo

    place = {wnid: k for k, wnid in enumerate(ImageNetInfo().label_names())}
    unknown = [wnid for wnid in stream.classes[0] if wnid not in place]
    if unknown:
        raise ValueError(
            f"{len(unknown)} classes are not ImageNet's ({', '.join(unknown[:3])}): the "
            "zero-shot head knows no words for them; take head.kind=probe"
        )
    return (tuple(IMAGENET_CLASSNAMES[place[wnid]] for wnid in stream.classes[0]),)


def words_of(names: tuple[str, ...]) -> tuple[str, ...]:
    """Words for the classes of a data set, for texts.

    Raises:
        ValueError: when they have numbers for names, or share one.
    """
    words = tuple(name.replace("_", " ") for name in names)
    if len(names) > 10 and all(name.isdigit() for name in names):
        raise ValueError(
            f"the {len(names)} classes have numbers for names: the zero-shot head knows no "
            "words for them; take head.kind=probe"
        )
    if len(set(words)) < len(words):
        raise ValueError("two classes have the same name: a zero-shot head cannot tell them apart")
    return words
