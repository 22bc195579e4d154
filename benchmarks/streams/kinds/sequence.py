"""The kind ``sequence``: data sets one after the other."""

from __future__ import annotations

from benchmarks.config import Config, Sequence
from benchmarks.streams.of_sets import stream_of
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
    loaded = [load_set(name, config.at(""), SetOptions.of(options)) for name in options.learnt]
    return stream_of(config, views, loaded, options.shared_labels)


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
