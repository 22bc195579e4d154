"""Loggers of Avalanche's metrics by name, writing into a run's own folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from avalanche.logging import BaseLogger

from benchmarks.config import Config, plain


@contextmanager
def open_loggers(config: Config, folder: Path | None, again: bool = False) -> Iterator[list[Any]]:
    """The loggers of ``where.loggers``; ``text`` fills ``log.txt``, and all are closed at the end.

    Args:
        config: says which.
        folder: to write to.
        again: the run goes on, so what was written stays; a few steps may stand there twice.

    Raises:
        ValueError: when there is no folder to write to.
        ImportError: when Weights & Biases is asked for and not installed.
    """
    names = dict.fromkeys(config.where.loggers)
    if names and folder is None:
        raise ValueError(f"where.loggers={list(names)} need a folder to write to")
    with ExitStack() as stack:
        made: list[Any] = []
        for name in names:
            assert folder is not None
            folder.mkdir(parents=True, exist_ok=True)
            made.append(_open(name, folder, config, stack, again))
        yield made


def _open(name: str, folder: Path, config: Config, stack: ExitStack, again: bool) -> Any:
    from avalanche import logging

    if name == "text":
        return logging.TextLogger(
            stack.enter_context((folder / "log.txt").open("a" if again else "w"))
        )
    if name == "csv":
        earlier = len(list(folder.glob("csv*"))) if again else 0  # its files begin anew
        logger = logging.CSVLogger(str(folder / (f"csv-{earlier + 1}" if earlier else "csv")))
        stack.callback(logger.close)
        return logger
    if name == "tensorboard":
        board = logging.TensorboardLogger(str(folder / "tensorboard"))
        stack.callback(board.writer.close)
        return board
    try:
        import wandb
    except ImportError as error:
        raise ImportError("where.loggers: wandb is not installed: pip install wandb") from error
    run = wandb.init(
        project="avalanche-proxyfda", name=config.label, dir=str(folder), config=plain(config),
        save_code=False,
    )  # fmt: skip
    stack.callback(run.finish)
    return _WandB(run)


class _WandB(BaseLogger):
    """Numbers to Weights & Biases; Avalanche's own logger needs functions that it has dropped."""

    def __init__(self, run: Any) -> None:
        super().__init__()
        self.run = run

    def log_single_metric(self, name: str, value: Any, x_plot: int) -> None:
        """One number at one step."""
        if isinstance(value, (int, float)):
            self.run.log({name: value}, step=x_plot)
