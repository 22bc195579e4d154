"""The lambda path: one method over its strengths, as a curve and not as one setting."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from avalanche_proxyfda.losses.base import check_amount
from benchmarks.board.rows import Row, rows_of
from benchmarks.config import Config, changed
from benchmarks.engine import run
from benchmarks.methods.registry import METHODS
from benchmarks.record import Record


def path_configs(config: Config, strengths: Sequence[float]) -> list[Config]:
    """``config`` at each strength; itself alone for a method that has none.

    Raises:
        TypeError, ValueError: for an empty grid, or strengths that repeat or are negative.
    """
    if METHODS[config.method].knob is None:
        return [config]
    if getattr(config.stream, "validation_share", 1) == 0:
        raise ValueError("a path is chosen on validation data: set stream.validation_share above 0")
    values = [check_amount("strengths", value) for value in strengths]
    if not values or len(set(values)) < len(values):
        raise ValueError(f"strengths={list(strengths)} must hold different numbers, at least one")
    return [changed(config, strength=value) for value in values]


def lambda_path(
    config: Config, strengths: Sequence[float], execute: Callable[[Config], Record] = run
) -> list[Row]:
    """Run one method over a grid of strengths.

    Args:
        config: the method and everything but its strength.
        strengths: the grid.
        execute: runs one configuration; the default runs it here and now.

    Returns:
        One row a strength, in ascending order, exactly one of them chosen: the best by
        accuracy + Δ_LP on validation data, of a tie the weaker.
    """
    return rows_of(execute(each) for each in path_configs(config, strengths))
