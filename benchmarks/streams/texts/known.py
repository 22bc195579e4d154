"""Class words and prompts that clip-benchmark gives to a data set, by the project's name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.streams.texts.entries import ENTRIES
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


def known_texts(name: str, labels: Sequence[str]) -> SetTexts:
    """Return clip-benchmark's class words, in order of label, and prompts of a data set.

    Args:
        name: key of :data:`~benchmarks.streams.texts.entries.ENTRIES`.
        labels: the data set's class names by label.

    Raises:
        ImportError: if clip-benchmark is not installed.
        ValueError: if the data set has no entry, or its labels do not match the class names.
    """
    entry = ENTRIES.get(name)
    if entry is None:
        raise ValueError(
            f"{name}: clip-benchmark has no prompts for this data set: set head.prompts=shared, or "
            "give its templates in head.words"
        )
    templates = shipped_templates()[entry.key]
    if entry.words == "own":
        if len(labels) != entry.classes:
            raise ValueError(
                f"{name}: the data set has {entry.classes} classes, and here are {len(labels)} "
                f"labels ({first_of(labels)}): repair the data, or give the class names of this "
                "data set in head.words"
            )
        blanks = str.maketrans(dict.fromkeys(entry.blanks, " "))
        words = tuple(word.translate(blanks) for word in words_of(tuple(labels), name))
    elif entry.words == "ordered":
        words = by_order(name, labels, shipped_names()[entry.key])
    else:
        names = shipped_names()[entry.key]
        words = by_name(name, labels, names, entry.renamed, entry.unused)
    return SetTexts(words, templates)
