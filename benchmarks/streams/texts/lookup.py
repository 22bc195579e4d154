"""Class words and prompts of the data sets of a run, as its configuration asks."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from benchmarks.config import Config, plain
from benchmarks.config.words import SetWords, set_name
from benchmarks.streams.panel import PanelData
from benchmarks.streams.stream import Stream
from benchmarks.streams.texts.entries import ENTRIES
from benchmarks.streams.texts.known import SetTexts, known_templates, known_words
from benchmarks.streams.texts.matching import mismatch
from benchmarks.streams.words import NoWordsError, words_of


def texts_of(config: Config, name: str, labels: Sequence[str]) -> SetTexts:
    """Return the class words, in order of label, and the prompts of one data set.

    The entries of ``head.words`` come first. The rest is clip-benchmark's for
    ``head.prompts=per-set``. For ``shared`` it is the labels' own names and ``head.templates``.

    Args:
        config: has ``head.prompts``, ``head.templates`` and ``head.words``.
        name: data set, as :func:`benchmarks.config.words.set_name` writes it.
        labels: the data set's class names by label.

    Raises:
        ImportError: if clip-benchmark is needed and not installed.
        NoWordsError: if the labels' own names are no words.
        ValueError: if class names do not match the labels, or the data set has no entry.
    """
    own = _own(config).get(name, SetWords()).templates
    per_set = config.head.prompts == "per-set"
    templates = own or (known_templates(name) if per_set else config.head.templates)
    return SetTexts(_words(config, name, labels), templates)


def union_words(config: Config, name: str, labels: Sequence[str]) -> tuple[str, ...]:
    """Return the class words of one data set whose label space is joined with others.

    The prompts of the joined space are ``head.templates``.

    Args:
        config: has ``head.prompts`` and ``head.words``.
        name: data set, as :func:`benchmarks.config.words.set_name` writes it.
        labels: the data set's class names by label.

    Raises:
        ImportError, NoWordsError, ValueError: see :func:`texts_of`; also for prompts of the data
            set in ``head.words``.
    """
    if _own(config).get(name, SetWords()).templates is not None:
        raise ValueError(
            f"head.words gives templates of {name}, and the sets of this stream share one label "
            "space and its prompts: leave templates out, and set head.templates"
        )
    return _words(config, name, labels)


def _words(config: Config, name: str, labels: Sequence[str]) -> tuple[str, ...]:
    own = _own(config).get(name, SetWords()).classes
    if own is not None:
        return _own_classes(name, own, labels)
    if config.head.prompts == "per-set" and name in ENTRIES:
        return known_words(name, labels)
    return words_of(tuple(labels), name)


def stream_texts(config: Config, stream: Stream) -> list[SetTexts]:
    """Return the texts of each tuple of ``stream.classes``, see :func:`texts_of`.

    A label space that no data set of the stream owns has the name of the stream's kind. The union
    of label spaces (X-TAIL) has the words of its data sets, and the prompts ``head.templates``.
    """
    if stream.added:
        return [SetTexts(names, config.head.templates) for names in stream.classes]
    names = _stream_names(config, stream)
    return [
        texts_of(config, name, labels) for name, labels in zip(names, stream.classes, strict=True)
    ]


def panel_texts(
    config: Config, panel: Sequence[PanelData]
) -> tuple[dict[str, SetTexts], dict[str, str]]:
    """Return the texts by set of the panel, and the reason by set whose classes have no words.

    Raises:
        ImportError, ValueError: see :func:`texts_of`; a set without words is no error.
    """
    texts, without = {}, {}
    for data in panel:
        name = data.images.name
        try:
            texts[name] = texts_of(config, _panel_name(config, data), data.classes)
        except NoWordsError as error:
            without[name] = str(error)
    return texts, without


def check_texts(config: Config, stream: Stream, panel: Sequence[PanelData]) -> None:
    """Refuse what :func:`panel_texts` refuses, and warn of names that ``head.words`` has in vain.

    Raises:
        ImportError, ValueError: see :func:`texts_of`.
    """
    panel_texts(config, panel)
    used = {*_stream_names(config, stream), *(_panel_name(config, data) for data in panel)}
    vain = [name for name in _own(config) if name not in used]
    if vain:
        warnings.warn(
            f"head.words has {', '.join(vain)}, and this run has {', '.join(sorted(used))} alone",
            stacklevel=2,
        )


def _own(config: Config) -> dict[str, SetWords]:
    words = config.head.words
    assert not isinstance(words, str)  # the configuration holds the file's content
    return words or {}


def _own_classes(
    name: str, classes: tuple[str, ...] | dict[str, str], labels: Sequence[str]
) -> tuple[str, ...]:
    if isinstance(classes, dict):
        if set(classes) != set(labels):
            raise ValueError(mismatch(name, labels, tuple(classes), own=True))
        return tuple(classes[label] for label in labels)
    if len(classes) != len(labels):
        raise ValueError(mismatch(name, labels, classes, own=True))
    return classes


def _stream_names(config: Config, stream: Stream) -> list[str]:
    learnt: tuple[str, ...] = getattr(config.stream, "learnt", ())
    united = learnt if stream.added else ()
    names = stream.sets or united or (stream.names if stream.tasks else (config.stream.kind,))
    content = plain(config)
    return [set_name(name, content) for name in names]


def _panel_name(config: Config, data: PanelData) -> str:
    return set_name(data.name or data.images.name, plain(config))
