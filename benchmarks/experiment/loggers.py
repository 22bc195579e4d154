"""Loggers of Avalanche's metrics by name, which write to the folder of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from avalanche.logging import BaseLogger

from avalanche_proxyfda.metrics.csv_logger import MetricsCSVLogger
from benchmarks.config import Config, plain
from benchmarks.experiment.guarded_logger import GuardedLogger


@contextmanager
def open_loggers(config: Config, folder: Path | None, again: bool = False) -> Iterator[list[Any]]:
    """Open the loggers of ``where.loggers``; the end of the block closes them.

    A logger that fails costs no record: a warning names the logger. The logger ``text`` writes
    to ``log.txt``, and ``csv`` to ``csv/metrics.csv``, a line for each number.

    Args:
        config: configuration of the run.
        folder: folder to write to; None without loggers.
        again: True if the run resumes. Earlier logs stay, and a few steps may be logged twice.

    Yields:
        The loggers.

    Raises:
        ValueError: if there are loggers and no folder.
        ImportError: if Weights & Biases is chosen and not installed.
    """
    names = dict.fromkeys(config.where.loggers)
    if names and folder is None:
        raise ValueError(
            f"where.loggers={list(names)} need a folder: give the output folder of the run"
        )
    with ExitStack() as stack:
        loggers: list[Any] = []
        for name in names:
            assert folder is not None
            folder.mkdir(parents=True, exist_ok=True)
            logger = GuardedLogger(name, *_open(name, folder, config, again))
            stack.callback(logger.close)
            loggers.append(logger)
        yield loggers


def _open(name: str, folder: Path, config: Config, again: bool) -> tuple[Any, Callable[[], Any]]:
    """Return a logger, and the function that closes it."""
    from avalanche import logging

    if name == "text":
        file = (folder / "log.txt").open("a" if again else "w", encoding="utf-8")
        return logging.TextLogger(file), file.close
    if name == "csv":  # Avalanche's own has no place for terms, and 0 for what is not measured
        logger = MetricsCSVLogger(folder / "csv" / "metrics.csv", append=again)
        return logger, logger.close
    if name == "tensorboard":
        board = logging.TensorboardLogger(str(folder / "tensorboard"))
        return board, board.writer.close
    try:
        import wandb
    except ImportError as error:
        raise ImportError("where.loggers: wandb is not installed: pip install wandb") from error
    run = wandb.init(
        project="avalanche-proxyfda",
        name=config.label,
        dir=str(folder),
        config=plain(config),
        save_code=False,
    )
    return _WandB(run), run.finish


class _WandB(BaseLogger):
    """Logs numbers to Weights & Biases.

    Avalanche's own logger calls functions that Weights & Biases has removed.
    """

    def __init__(self, run: Any) -> None:
        super().__init__()
        self.run = run

    def log_single_metric(self, name: str, value: Any, x_plot: int) -> None:
        """Log one number at step ``x_plot``; other values are skipped."""
        if isinstance(value, (int, float)):
            self.run.log({name: value}, step=x_plot)
