"""The file of ``MetricsCSVLogger`` keeps the lines from before a crash."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from avalanche_proxyfda.metrics import MetricsCSVLogger
from tests.checkpoint.training import BreakOff, BrokenOffError, build, train
from tests.plugins.toys import Plain, classic


def logged(path: Path, folder: Path, stop: int | None) -> list[str]:
    """Train with a logger until ``stop``, and return the lines of its file."""
    strategy: Any = build(Plain, BreakOff(stop))
    logger = MetricsCSVLogger(path)
    strategy.evaluator.loggers.append(logger)
    train(strategy, classic(2), folder)
    logger.close()
    return path.read_text(encoding="utf-8").splitlines()


def test_a_resumed_training_continues_the_file(tmp_path: Path) -> None:
    whole = logged(tmp_path / "whole.csv", tmp_path / "whole", None)
    path = tmp_path / "metrics.csv"
    with pytest.raises(BrokenOffError):
        logged(path, tmp_path / "broken", 11)
    before = path.read_text(encoding="utf-8").splitlines()
    assert len(before) > 1
    lines = logged(path, tmp_path / "broken", None)
    assert lines[: len(before)] == before and set(lines) == set(whole)
    assert [each.name for each in tmp_path.glob("*.csv")].count("metrics.previous.csv") == 0
