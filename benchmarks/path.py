"""The lambda path: one method over its strengths, as a curve and not as one setting."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from avalanche_proxyfda.losses.base import check_amount
from benchmarks.config import Config, changed
from benchmarks.engine import run
from benchmarks.methods import METHODS

_NO_VALIDATION = "set stream.validation_share above 0"


@dataclass(frozen=True)
class PathPoint:
    """One run of a path.

    Attributes:
        strength: lambda, or whatever the method's knob is; None for plain fine-tuning.
        stream_accuracy: mean test accuracy over the stream at its end, in [0, 1].
        delta_lp: mean change of the panel's probe accuracy on the test splits; None without
            a panel.
        forgetting: Avalanche's, on the test splits.
        validation_accuracy: as ``stream_accuracy``, on the validation splits.
        validation_delta_lp: as ``delta_lp``, on the validation splits.
        chosen: whether this is the point that validation data choose.
        record: all that the run gave.
    """

    strength: float | None
    stream_accuracy: float
    delta_lp: float | None
    forgetting: float
    validation_accuracy: float
    validation_delta_lp: float | None
    chosen: bool
    record: dict[str, Any]

    @property
    def score(self) -> float:
        """What is chosen by: learning and keeping, weighed alike, on validation data."""
        return self.validation_accuracy + (self.validation_delta_lp or 0.0)


def path_configs(config: Config, strengths: Sequence[float]) -> list[Config]:
    """``config`` at each strength; itself alone for a method that has none.

    Raises:
        TypeError, ValueError: for an empty grid, or strengths that repeat or are negative.
    """
    if METHODS[config.method].knob is None:
        return [config]
    if getattr(config.stream, "validation_share", 1) == 0:
        raise ValueError("a path is chosen on validation data: " + _NO_VALIDATION)
    values = [check_amount("strengths", value) for value in strengths]
    if not values or len(set(values)) < len(values):
        raise ValueError(f"strengths={list(strengths)} must hold different numbers, at least one")
    return [changed(config, strength=value) for value in values]


def path_points(records: Iterable[dict[str, Any]]) -> list[PathPoint]:
    """The points of one method's runs, by strength; the best on validation data is chosen.

    Of a tie the weaker is chosen.

    Raises:
        ValueError: when there is no record, or they differ in more than strength.
    """
    found = list(records)
    settings = [{**r["config"], "strength": None} for r in found]
    if not found or any(other != settings[0] for other in settings):
        raise ValueError("records of a path must be at least one, and differ in strength alone")
    if any(r["validation"]["stream_accuracy"] is None for r in found):
        raise ValueError("records without validation figures cannot choose: " + _NO_VALIDATION)
    points = [
        PathPoint(
            strength=r["config"]["strength"],
            stream_accuracy=r["test"]["stream_accuracy"],
            delta_lp=r["test"]["delta_lp"],
            forgetting=r["test"]["forgetting_avalanche"],
            validation_accuracy=r["validation"]["stream_accuracy"],
            validation_delta_lp=r["validation"]["delta_lp"],
            chosen=False,
            record=r,
        )
        for r in found
    ]
    points.sort(key=lambda p: p.strength or 0.0)
    weakest_first = points[::-1] if METHODS[settings[0]["method"]].weakens else points
    best = max(weakest_first, key=lambda p: p.score)  # the first of equals
    return [replace(p, chosen=p is best) for p in points]


def lambda_path(
    config: Config,
    strengths: Sequence[float],
    execute: Callable[[Config], dict[str, Any]] = run,
) -> list[PathPoint]:
    """Run one method over a grid of strengths.

    Args:
        config: the method and everything but its strength.
        strengths: the grid.
        execute: runs one configuration; the default runs it here and now.

    Returns:
        One point a strength, in ascending order, exactly one of them chosen.
    """
    return path_points([execute(each) for each in path_configs(config, strengths)])
