"""Logs every number of a training to one CSV file."""

from __future__ import annotations

import csv
import os
import warnings
from collections.abc import Callable
from typing import Any

import torch
from avalanche.logging import BaseLogger

from avalanche_proxyfda._files import expanded

COLUMNS = ("step", "metric", "value")


class MetricsCSVLogger(BaseLogger):
    """Writes one line for each number that Avalanche's evaluator gets: step, metric, value.

    Avalanche's own ``CSVLogger`` has fixed columns for accuracy, loss and forgetting. It drops
    all other metrics, among them the terms of plugins, and writes 0 for a column that nobody
    measured. Here a metric that is not measured has no line.

    The values are numbers and tensors with one element; images and matrices are skipped. Each
    line is on the disk before the training goes on. A line that cannot be written, as on a full
    disk, ends no training: a warning names the file and the error once.

    Args:
        path: the file; its folder is made.
        append: True adds lines to the file of an earlier process; False replaces the file.

    Raises:
        OSError: if the file cannot be opened.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> folder = tempfile.TemporaryDirectory()
        >>> logger = MetricsCSVLogger(Path(folder.name) / "metrics.csv")
        >>> logger.log_single_metric("FDA_alignment_Epoch/train_phase/train_stream", 0.5, 24)
        >>> logger.close()
        >>> print(Path(folder.name, "metrics.csv").read_text(encoding="utf-8").rstrip())
        step,metric,value
        24,FDA_alignment_Epoch/train_phase/train_stream,0.5
        >>> folder.cleanup()
    """

    def __init__(self, path: str | os.PathLike[str], append: bool = False) -> None:
        super().__init__()
        self.path = expanded(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        begins = not append or not self.path.exists() or self.path.stat().st_size == 0
        self._file = self.path.open("w" if begins else "a", encoding="utf-8", newline="")
        self._lines = csv.writer(self._file, lineterminator="\n")
        self._warned = False
        if begins:
            self._write(*COLUMNS)

    def log_single_metric(self, name: str, value: Any, x_plot: int) -> None:
        """Write one line.

        Args:
            name: name of the metric.
            value: a number, or a tensor with one element; other values are skipped.
            x_plot: number of the training step.
        """
        if isinstance(value, torch.Tensor) and value.numel() == 1:
            value = value.item()
        if isinstance(value, (int, float)):
            self._attempt(self._write, x_plot, name, float(value))

    def _write(self, *cells: Any) -> None:
        self._lines.writerow(cells)
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._attempt(self._file.close)

    def _attempt(self, act: Callable[..., None], *args: Any) -> None:
        try:
            act(*args)
        except (OSError, ValueError) as error:  # a full disk; a file that is closed
            if not self._warned:
                warnings.warn(
                    f"{self.path} cannot be written ({type(error).__name__}: {error}), and lacks "
                    "lines; the training goes on",
                    stacklevel=3,
                )
            self._warned = True
