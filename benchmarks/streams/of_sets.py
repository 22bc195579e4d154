"""A stream of loaded data sets, one experience each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from avalanche_proxyfda.streams.files.labelled import SPLITS, DataSet
from avalanche_proxyfda.streams.sequence import dataset_sequence
from benchmarks.config import Config, plain
from benchmarks.results.places import scrubbed, title_of
from benchmarks.results.splits import split_hash
from benchmarks.streams.sets import shown_names
from benchmarks.streams.stream import Stream
from benchmarks.streams.union import LabelUnion
from benchmarks.streams.views import Views

Loaded = Sequence[tuple[DataSet, dict[str, str]]]
"""Data sets in the order of learning, with the reason for each dropped image, by place."""


def stream_of(
    config: Config,
    views: Views,
    loaded: Loaded,
    shared: bool = False,
    union: LabelUnion | None = None,
    family: str = "",
    about: Sequence[dict[str, Any]] = (),
) -> Stream:
    """Build the stream of data sets.

    Args:
        config: configuration of the run.
        views: views of the images.
        loaded: the data sets.
        shared: True if all data sets have the same classes, and one label space.
        union: one label space of data sets with classes of their own; None without it.
        family: name of the splits, which counts in the hash of the stream; ``""`` without one.
        about: further entries of each data set for the record.

    Raises:
        ValueError: if the sets do not fit each other.
    """
    names, content = shown_names(config), plain(config)
    sets = [replace(data, name=names[data.name]) for data, _ in loaded]
    learnt = sets if union is None else union.relabelled(sets)
    dropped = {
        scrubbed(place, content): scrubbed(reason, content)
        for _, reasons in loaded
        for place, reason in reasons.items()
    }
    one_space = shared or union is not None
    tested = dataset_sequence(learnt, views.train, views.evaluation, one_space, "test")
    validated = None
    if all(len(data.validation) for data in sets):
        validated = dataset_sequence(
            learnt, views.train, views.evaluation, one_space, "validation"
        ).test_stream
    listed = [
        {**entry, "classes": len(data.classes), "sha256": data.sha256, **more}
        for entry, data, more in zip(
            tested.summary["sets"], sets, about or [{}] * len(sets), strict=True
        )
    ]
    hashed = [(f"{family}:{d.name}" if family else d.name, d.sha256) for d in sets]
    summary = {**tested.summary, "sets": listed, "split_sha256": split_hash(hashed)}
    if family:
        summary["splits"] = family
    if union is not None:
        summary |= {"shared_labels": False, "merged": dict(union.merged)}
    classes = tuple(data.classes for data in learnt)
    return Stream(
        train=tested.train_stream,
        test=tested.test_stream,
        validation=validated,
        classes=classes[:1] if one_space else classes,
        tasks=not one_space,
        grows=False,
        names=tuple(title_of(data.name) for data in sets),
        summary={**summary, "dropped": dropped},
        sources=tuple(
            {s: part for s in SPLITS if len(part := getattr(data, s)) or s != "validation"}
            for data in learnt
        ),
        sets=_owners(config.stream, shared, union is not None),
        added=() if union is None else union.added,
    )


def _owners(stream: Any, shared: bool, united: bool) -> tuple[str, ...]:
    """Return the data set of each label space; a union of label spaces has none."""
    if united:
        return ()
    learnt: tuple[str, ...] = stream.learnt
    return learnt[:1] if shared else learnt
