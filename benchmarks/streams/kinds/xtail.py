"""The kind ``xtail``: the data sets of X-TAIL, with one label space and no set id."""

from __future__ import annotations

from benchmarks.config import Config, XTail
from benchmarks.streams.mtil_sets import load_mtil, scan_mtil
from benchmarks.streams.of_sets import stream_of
from benchmarks.streams.stream import Stream
from benchmarks.streams.texts.lookup import union_words
from benchmarks.streams.union import union_of
from benchmarks.streams.views import Views


def build(config: Config, views: Views) -> Stream:
    """Build the stream.

    Raises:
        FileNotFoundError: if images or a split file are missing.
        ValueError: if a data set is refused, its classes have no words, or the head has no texts.
    """
    assert isinstance(config.stream, XTail)
    if config.head.kind != "zero-shot":
        raise ValueError(
            f"head.kind={config.head.kind!r}: X-TAIL classifies over the classes of all sets from "
            "the start, learnt or not; set head.kind=zero-shot"
        )
    loaded, about = load_mtil(config)
    sets, names = [data for data, _ in loaded], config.stream.learnt
    words = [union_words(config, n, d.classes) for n, d in zip(names, sets, strict=True)]
    union = union_of(sets, words)
    return stream_of(config, views, loaded, union=union, family=config.stream.splits, about=about)


def scan(config: Config) -> tuple[int, dict[str, str]]:
    """Read every image of the data sets once.

    Raises:
        FileNotFoundError, ValueError: see :func:`avalanche_proxyfda.streams.mtil.mtil_set`.
    """
    return scan_mtil(config)
