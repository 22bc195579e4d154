"""How far a run is: what it has measured so far, as a checkpoint keeps it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from typing import Any

from benchmarks.measure import PanelMoment

Row = tuple[float | None, ...]
Terms = dict[str, tuple[float | None, ...]]


@dataclass
class Progress:
    """What a run has measured.

    Attributes:
        matrix: test accuracies, a row before the stream and one after each experience.
        terms: loss terms of each experience, by name, an entry an epoch.
        learnt: validation accuracy of each experience right after it.
        moments: of the panel, by experiences learnt.
        known: how many values each metric of epochs had before the experience at hand.
        forgetting: Avalanche's own.
        source: where the embedding is read.
        training, spent: seconds in training and in all, earlier processes' too.
        resumed: where the run went on, each time.
    """

    matrix: list[Row] = field(default_factory=list)
    terms: list[Terms] = field(default_factory=list)
    learnt: list[float] = field(default_factory=list)
    moments: dict[int, PanelMoment] = field(default_factory=dict)
    known: dict[str, int] = field(default_factory=dict)
    forgetting: float = 0.0
    source: str | None = None
    training: float = 0.0
    spent: float = 0.0
    resumed: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._since, self._trains = time.perf_counter(), False

    def count(self) -> None:
        """Count the seconds since the last time."""
        now = time.perf_counter()
        self.spent += now - self._since
        self.training += (now - self._since) * self._trains
        self._since = now

    @contextmanager
    def in_training(self) -> Iterator[None]:
        """Count seconds as training."""
        self.count()
        self._trains = True
        yield
        self.count()
        self._trains = False

    def plain(self) -> dict[str, Any]:
        """As it is now, in plain data and tensors; nothing is copied."""
        self.count()
        made = {f.name: getattr(self, f.name) for f in fields(self)}
        made["moments"] = {
            number: {f.name: getattr(moment, f.name) for f in fields(PanelMoment)}
            for number, moment in self.moments.items()
        }
        return made

    @staticmethod
    def of(content: Mapping[str, Any]) -> Progress:
        """What :meth:`plain` was made of."""
        moments = {k: PanelMoment(**held) for k, held in content["moments"].items()}
        return Progress(**{**content, "moments": moments})
