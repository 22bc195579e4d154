"""The kind ``mtil``: the data sets of MTIL, each with its own labels."""

from __future__ import annotations

from benchmarks.config import Config, Mtil
from benchmarks.streams.mtil_sets import load_mtil, scan_mtil
from benchmarks.streams.of_sets import stream_of
from benchmarks.streams.stream import Stream
from benchmarks.streams.views import Views


def build(config: Config, views: Views) -> Stream:
    """Build the stream.

    Raises:
        FileNotFoundError: if images or a split file are missing.
        ValueError: if a data set is refused.
    """
    assert isinstance(config.stream, Mtil)
    loaded, about = load_mtil(config)
    return stream_of(config, views, loaded, family=config.stream.splits, about=about)


def scan(config: Config) -> tuple[int, dict[str, str]]:
    """Read every image of the data sets once.

    Raises:
        FileNotFoundError, ValueError: see :func:`avalanche_proxyfda.streams.mtil.mtil_set`.
    """
    return scan_mtil(config)
