"""The kind ``sequence``: data sets one after the other."""

from __future__ import annotations

from dataclasses import replace

from avalanche_proxyfda.streams.files.labelled import SPLITS
from avalanche_proxyfda.streams.sequence import dataset_sequence
from benchmarks.config import Config, Sequence, plain
from benchmarks.results.places import scrubbed, title_of
from benchmarks.results.splits import split_hash
from benchmarks.streams.sets import SetOptions, load_set, scan_set, shown_names
from benchmarks.streams.stream import Stream
from benchmarks.streams.views import Views


def build(config: Config, views: Views) -> Stream:
    """Build the stream.

    Raises:
        FileNotFoundError: if a data set is missing.
        ValueError: if a data set is refused, or the sets do not fit each other.
    """
    options = config.stream
    assert isinstance(options, Sequence)
    loaded = [load_set(name, config.at(""), SetOptions.of(options)) for name in options.sets]
    names, content = shown_names(config), plain(config)
    sets = [replace(data, name=names[data.name]) for data, _ in loaded]
    dropped = {
        scrubbed(place, content): scrubbed(reason, content)
        for _, reasons in loaded
        for place, reason in reasons.items()
    }
    shared = options.shared_labels
    tested = dataset_sequence(sets, views.train, views.evaluation, shared, "test")
    validation = None
    if options.validation_share:
        validated = dataset_sequence(sets, views.train, views.evaluation, shared, "validation")
        validation = validated.test_stream
    classes = tuple(data.classes for data in sets)
    listed = [
        {**about, "sha256": data.sha256}
        for about, data in zip(tested.summary["sets"], sets, strict=True)
    ]
    return Stream(
        train=tested.train_stream,
        test=tested.test_stream,
        validation=validation,
        classes=classes[:1] if shared else classes,
        tasks=not shared,
        grows=False,
        names=tuple(title_of(data.name) for data in sets),
        summary={
            **tested.summary,
            "sets": listed,
            "split_sha256": split_hash([(data.name, data.sha256) for data in sets]),
            "dropped": dropped,
        },
        sources=tuple(
            {split: part for split in SPLITS if len(part := getattr(data, split))} for data in sets
        ),
        sets=options.sets[:1] if shared else options.sets,
    )


def scan(config: Config) -> tuple[int, dict[str, str]]:
    """Read every image of the data sets once.

    Raises:
        FileNotFoundError, ValueError: see :func:`avalanche_proxyfda.streams.files.datasets.load`.
    """
    assert isinstance(config.stream, Sequence)
    count, reasons = 0, {}
    for name in config.stream.sets:
        images, broken = scan_set(name, config.at(""), SetOptions.of(config.stream))
        count += images
        reasons |= broken
    return count, reasons
