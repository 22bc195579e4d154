"""The kind ``sequence``: data sets one after the other."""

from __future__ import annotations

from avalanche_proxyfda.streams.files.images import list_hash
from avalanche_proxyfda.streams.files.labelled import SPLITS
from avalanche_proxyfda.streams.sequence import dataset_sequence
from benchmarks.config import Config, Sequence
from benchmarks.streams.sets import SetOptions, load_set, scan_set
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
    sets = [data for data, _ in loaded]
    dropped = {place: reason for _, reasons in loaded for place, reason in reasons.items()}
    shared = options.shared_labels
    tested = dataset_sequence(sets, views.train, views.evaluation, shared, "test")
    validated = dataset_sequence(sets, views.train, views.evaluation, shared, "validation")
    classes = tuple(data.classes for data in sets)
    identity = list_hash([f"{data.name} {data.sha256}" for data in sets])
    return Stream(
        train=tested.train_stream,
        test=tested.test_stream,
        validation=validated.test_stream,
        classes=classes[:1] if shared else classes,
        tasks=not shared,
        grows=False,
        names=tuple(data.name.partition(":")[2] or data.name for data in sets),
        summary={**tested.summary, "split_sha256": identity, "dropped": dropped},
        sources=tuple({split: getattr(data, split) for split in SPLITS} for data in sets),
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
