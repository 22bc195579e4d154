"""The stream of a run: experiences to learn, with the names of their classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, eq=False)
class Stream:
    """A stream of experiences.

    Attributes:
        train: Avalanche's training experiences, in the order of learning.
        test: Avalanche's test experiences, in the same order.
        validation: Avalanche's validation experiences, in the same order; None without any.
        classes: class names by label. There is one tuple for each task if tasks have labels
            of their own, and one tuple otherwise.
        tasks: True if tasks have labels of their own.
        grows: True if experiences add classes to one label space.
        names: names of the experiences.
        summary: contents of the stream, for the record.
        sources: images of each experience as they are stored, by split, in the order of the
            experience's data sets; empty if they are not known.
        sets: data set of each entry of ``classes``, as the configuration names it. Empty: tasks
            are data sets with the names of the experiences, and a label space that they share
            belongs to none.
        added: number of classes that each experience adds to one label space of data sets with
            classes of their own; empty for other streams. Training then sees the classes so far
            alone, and evaluation all classes.
    """

    train: Any
    test: Any
    validation: Any
    classes: tuple[tuple[str, ...], ...]
    tasks: bool
    grows: bool
    names: tuple[str, ...]
    summary: dict[str, Any]
    sources: tuple[Mapping[str, Any], ...] = ()
    sets: tuple[str, ...] = ()
    added: tuple[int, ...] = ()
