"""The lambda path: one method over its strengths, as a curve and not as one setting."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from benchmarks.config import Config, path_configs
from benchmarks.experiment.run import run
from benchmarks.results.record import Record
from benchmarks.results.settings import Row, rows_of


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
