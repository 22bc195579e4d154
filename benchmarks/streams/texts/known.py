"""Class words and prompts that clip-benchmark gives to a data set, by the project's name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.streams.texts.entries import ENTRIES, Entry
from benchmarks.streams.texts.matching import by_name, by_order, first_of
from benchmarks.streams.texts.shipped import shipped_names, shipped_templates
from benchmarks.streams.words import words_of


@dataclass(frozen=True)
class SetTexts:
    """Texts of one data set.

    Attributes:
        words: one word or phrase for each class, by label.
        templates: prompts with ``{}`` in the place of the word.
    """

    words: tuple[str, ...]
    templates: tuple[str, ...]


def known_words(name: str, labels: Sequence[str]) -> tuple[str, ...]:
    """Return clip-benchmark's class words of a data set, in order of label.

    Args:
        name: key of :data:`~benchmarks.streams.texts.entries.ENTRIES`.
        labels: the data set's class names by label.

    Raises:
        ImportError: if clip-benchmark is needed and not installed.
        ValueError: if the data set has no entry, or its labels do not match the class names.
    """
    entry = _entry(name)
    if entry.words == "ordered":
        return by_order(name, labels, shipped_names()[entry.key])
    if entry.words == "named":
        return by_name(name, labels, shipped_names()[entry.key], entry.renamed, entry.unused)
    if len(labels) != entry.classes:
        raise ValueError(
            f"{name}: the data set has {entry.classes} classes, and here are {len(labels)} "
            f"labels ({first_of(labels)}): repair the data, or give the class names of this "
            "data set in head.words"
        )
    blanks = str.maketrans(dict.fromkeys(entry.blanks, " "))
    return tuple(word.translate(blanks) for word in words_of(tuple(labels), name))


def known_templates(name: str) -> tuple[str, ...]:
    """Return clip-benchmark's prompts of a data set, with ``{}`` in the place of the word.

    Args:
        name: key of :data:`~benchmarks.streams.texts.entries.ENTRIES`.

    Raises:
        ImportError: if clip-benchmark is not installed.
        ValueError: if the data set has no entry.
    """
    entry = _entry(name)  # first: a set without an entry needs no clip-benchmark
    return shipped_templates()[entry.key]


def _entry(name: str) -> Entry:
    if name not in ENTRIES:
        raise ValueError(
            f"{name}: clip-benchmark has no prompts for this data set: set head.prompts=shared, or "
            "give its templates in head.words"
        )
    return ENTRIES[name]
