"""One label space of data sets that have classes of their own (X-TAIL)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from avalanche_proxyfda.streams.files.labelled import SPLITS, DataSet, Labelled


@dataclass(frozen=True)
class LabelUnion:
    """The classes of several data sets, by label.

    Labels follow the order of learning: classes of a later data set have higher labels. A class
    that an earlier data set has by the same words keeps the earlier label.

    Attributes:
        classes: words for the classes by label.
        labels: for each data set the label in the union, by its own label.
        added: number of classes that each data set adds.
        merged: names of the data sets that share a class, by its words.
    """

    classes: tuple[str, ...]
    labels: tuple[tuple[int, ...], ...]
    added: tuple[int, ...]
    merged: dict[str, list[str]]

    def relabelled(self, sets: Sequence[DataSet]) -> list[DataSet]:
        """Return the data sets with labels and classes of the union, in the same order."""
        return [
            replace(
                data,
                classes=self.classes,
                **{split: _mapped(getattr(data, split), labels) for split in SPLITS},
            )
            for data, labels in zip(sets, self.labels, strict=True)
        ]


def union_of(sets: Sequence[DataSet], texts: Sequence[Sequence[str]]) -> LabelUnion:
    """Return the label space of data sets in the order of learning.

    Two classes are the same if their words differ in capitals or spaces at most: the text tower
    of CLIP has one embedding for both.

    Args:
        sets: the data sets.
        texts: for each data set the words for its classes, by label.

    Raises:
        ValueError: if two classes of a data set have the same words; names the data set.
    """
    places: dict[str, int] = {}
    owners: dict[int, list[str]] = {}
    classes: list[str] = []
    labels, added = [], []
    for data, words in zip(sets, texts, strict=True):
        keys = [" ".join(word.casefold().split()) for word in words]
        twice = sorted({key for key in keys if keys.count(key) > 1})
        if twice:
            raise ValueError(
                f"{data.name}: two classes have the same words, {twice[:3]}: their texts cannot "
                "separate them"
            )
        own, before = [], len(classes)
        for key, word in zip(keys, words, strict=True):
            if key not in places:
                places[key] = len(classes)
                classes.append(word)
            owners.setdefault(places[key], []).append(data.name)
            own.append(places[key])
        labels.append(tuple(own))
        added.append(len(classes) - before)
    merged = {classes[place]: names for place, names in owners.items() if len(names) > 1}
    return LabelUnion(tuple(classes), tuple(labels), tuple(added), merged)


def _mapped(data: Labelled, labels: tuple[int, ...]) -> Labelled:
    return replace(data, targets=tuple(labels[target] for target in data.targets))
