"""The file of ``MetricsCSVLogger`` keeps the lines from before a crash."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

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


def test_numbers_of_numpy_are_logged(tmp_path: Path) -> None:
    logger = MetricsCSVLogger(tmp_path / "metrics.csv")
    for number in (1, 2.5, True, np.float32(3), np.int64(4), np.bool_(True), torch.tensor([5.0])):
        logger.log_single_metric(type(number).__name__, number, 1)
    for other in ("text", np.ones(2), torch.ones(2), None):
        logger.log_single_metric("other", other, 1)
    logger.close()
    lines = (tmp_path / "metrics.csv").read_text(encoding="utf-8").splitlines()
    numbers = [float(line.split(",")[2]) for line in lines[1:]]
    assert numbers == [1.0, 2.5, 1.0, 3.0, 4.0, 1.0, 5.0]
