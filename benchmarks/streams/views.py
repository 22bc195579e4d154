"""Views: how an image becomes an input of the model."""

from __future__ import annotations

from dataclasses import dataclass

from avalanche_proxyfda.streams.sequence import Transform


@dataclass(frozen=True)
class Views:
    """The views of a run.

    Attributes:
        train: view for training.
        evaluation: view for evaluation.
    """

    train: Transform
    evaluation: Transform
