"""Measurements of a run so far, in the form that a checkpoint stores."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from typing import Any

from avalanche_proxyfda.checkpoint import CheckpointError
from benchmarks.experiment.measure import PanelMoment

Row = tuple[float | None, ...]
Terms = dict[str, tuple[float | None, ...]]


@dataclass
class Progress:
    """Measurements of a run so far.

    Attributes:
        matrix: test accuracies, a row before the stream and one after each experience.
        terms: loss terms of each experience, by name, an entry an epoch.
        learnt: validation accuracy of each experience right after it.
        moments: measurements of the panel, by the number of experiences learnt; the first has
            features, the others their drift.
        known: number of values that each epoch metric had before the present experience.
        forgetting: forgetting as Avalanche computes it.
        source: module whose output is the embedding.
        training: seconds in training, with those of earlier processes.
        spent: seconds in all, with those of earlier processes.
        resumed: positions at which the run was resumed.
        begun: hashes of what the run began with, by name; empty in older checkpoints.
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
    begun: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._since, self._trains = time.perf_counter(), False

    def count(self) -> None:
        """Add the seconds since the last call to ``spent``, and to ``training`` while it trains."""
        now = time.perf_counter()
        self.spent += now - self._since
        self.training += (now - self._since) * self._trains
        self._since = now

    @contextmanager
    def in_training(self) -> Iterator[None]:
        """Count the seconds of the block as training."""
        self.count()
        self._trains = True
        yield
        self.count()
        self._trains = False

    def plain(self) -> dict[str, Any]:
        """Return the present state as plain data and tensors; nothing is copied."""
        self.count()
        content = {f.name: getattr(self, f.name) for f in fields(self)}
        content["moments"] = {
            number: {f.name: getattr(moment, f.name) for f in fields(PanelMoment)}
            for number, moment in self.moments.items()
        }
        return content

    @staticmethod
    def of(content: Mapping[str, Any]) -> Progress:
        """Return the progress of a result of :meth:`plain`.

        Raises:
            CheckpointError: for a result of an earlier version, which has no drift of its moments.
        """
        if any("drift" not in parts for parts in content["moments"].values()):
            raise CheckpointError(
                "the run's checkpoint is of an earlier version, which kept the panel's features of "
                "every moment: resume with that version, delete the run's folder checkpoint, or "
                "give --no-resume"
            )
        moments = {k: PanelMoment(**parts) for k, parts in content["moments"].items()}
        return Progress(**{**content, "moments": moments})
