"""Train, validation and test splits, made from the splits that a data set publishes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from avalanche_proxyfda.streams.files.labelled import DataSet, Labelled

_NO_VALIDATION = "test as published; no validation"
Splits = dict[str, tuple[Any, Sequence[int]]]
"""Images and labels by published split: ``train``, ``validation``, ``test``; or ``all``."""


def with_three_splits(
    name: str,
    splits: Splits,
    classes: tuple[str, ...],
    share: float,
    seed: int,
    groups: Sequence[str] | None = None,
    note: str | None = None,
    test_rows: Sequence[int] | None = None,
) -> DataSet:
    """Make a data set with train, validation and test splits.

    Published splits stay as they are. Without a published test split, a fifth of each class
    becomes the test split, for every seed the same. Without a published validation split,
    ``share`` of each class's remaining images becomes the validation split. With a share of 0, a
    published validation split is left out.

    Args:
        name: name of the data set.
        splits: published splits.
        classes: class names by label.
        share: share of each class for validation; 0 leaves the validation split empty.
        seed: seed of the validation split.
        groups: group of each training row; groups are never divided. None without groups.
        note: origin of the splits; None derives it from the published splits.
        test_rows: rows of the test split, where only ``all`` is published; None draws them.

    Raises:
        ValueError: if a split has no image, a class has no training image, or a label has no
            class. With a share of 0, validation has no image.
    """
    given, note = note, "validation and test as published"
    if "all" in splits:
        data, labels = splits["all"]
        test = _chosen(labels, 0.2, 0) if test_rows is None else set(test_rows)
        rest = [r for r in range(len(labels)) if r not in test]
        parts = {"test": _part(data, labels, sorted(test))}
        note = "test: a fifth of each class, ours; validation: ours"
    else:
        data, labels = splits["train"]
        rest = list(range(len(labels)))
        parts = {"test": _part(*splits["test"], range(len(splits["test"][1])))}
    if share == 0:
        parts["validation"] = _part(data, labels, ())
        note = (
            note.replace("validation: ours", "no validation") if "all" in splits else _NO_VALIDATION
        )
    elif "validation" in splits:
        parts["validation"] = _part(*splits["validation"], range(len(splits["validation"][1])))
    else:
        rest_groups = None if groups is None else [groups[r] for r in rest]
        places = _chosen([labels[r] for r in rest], share, seed, rest_groups)
        parts["validation"] = _part(data, labels, [rest[k] for k in sorted(places)])
        rest = [r for k, r in enumerate(rest) if k not in places]
        note = note if "all" in splits else "test as published; validation: of train, ours"
        if groups is not None:
            note += ", whole tracks"
    parts["train"] = _part(data, labels, rest)
    for split, part in parts.items():
        if split == "validation" and share == 0:
            continue
        _check_part(name, split, part, len(classes))
    three = (parts["train"], parts["validation"], parts["test"])
    return DataSet(name, classes, *three, given or note)


def _check_part(name: str, split: str, part: Labelled, classes: int) -> None:
    if not len(part):
        raise ValueError(
            f"{name} has no image for {split}: its classes have too few; give one class three "
            "images at least"
        )
    holes = sorted(set(range(classes)) - set(part.targets))
    beyond = sorted(set(part.targets) - set(range(classes)))
    if beyond or (holes and split == "train"):
        fault = f"labels {beyond[:5]} beyond its" if beyond else f"no image of {holes[:5]} of its"
        raise ValueError(
            f"{name} ({split}) has {fault} {classes} classes: labels are 0 to {classes - 1}, and "
            "each class needs a training image"
        )


def _chosen(
    labels: Sequence[int], share: float, seed: int, groups: Sequence[str] | None = None
) -> set[int]:
    """Choose about ``share`` of the rows of each class; the same for the same seed.

    Rows of one group stay together. A class with two groups or more gives one at least and
    keeps one at least.
    """
    rng, chosen = np.random.default_rng((seed, 20260)), set()
    array = np.asarray(labels)
    names = np.arange(len(array)) if groups is None else np.asarray(groups)
    for label in np.unique(array):
        rows = np.flatnonzero(array == label)
        shuffled = rng.permutation(np.unique(names[rows]))
        count = max(1, round(share * len(shuffled))) if len(shuffled) > 1 else 0
        chosen |= {int(r) for r in rows[np.isin(names[rows], shuffled[:count])]}
    return chosen


def _part(data: Any, labels: Sequence[int], rows: Sequence[int]) -> Labelled:
    return Labelled(data, tuple(rows), tuple(int(labels[r]) for r in rows))
