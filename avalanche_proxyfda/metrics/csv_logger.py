"""Logs every number of a training to one CSV file."""

from __future__ import annotations

import csv
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from avalanche.logging import BaseLogger

from avalanche_proxyfda._checks import check_choice
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

    A file of an earlier process is safe. If a checkpoint resumes the training
    (:meth:`~avalanche_proxyfda.checkpoint.Checkpoints.resume`), the new lines follow the earlier
    ones, and the steps between the checkpoint and the crash come twice. If the training begins
    anew, the first line moves the earlier file aside, to ``metrics.previous.csv`` beside it,
    with a warning.

    Args:
        path: the file; its folder is made.
        append: None adds lines to an earlier file if the training is resumed, and moves the file
            aside otherwise. True always adds lines. False replaces the file. An earlier file
            with other columns gets no lines: None and True move it aside.

    Raises:
        OSError: if the file cannot be opened.
        ValueError: if ``append`` is none of these.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from avalanche_proxyfda.metrics import MetricsCSVLogger
        >>> folder = tempfile.TemporaryDirectory()
        >>> logger = MetricsCSVLogger(Path(folder.name) / "metrics.csv")
        >>> logger.log_single_metric("FDA_alignment_Epoch/train_phase/train_stream", 0.5, 24)
        >>> logger.close()
        >>> print(Path(folder.name, "metrics.csv").read_text(encoding="utf-8").rstrip())
        step,metric,value
        24,FDA_alignment_Epoch/train_phase/train_stream,0.5
        >>> folder.cleanup()
    """

    def __init__(self, path: str | os.PathLike[str], append: bool | None = None) -> None:
        super().__init__()
        check_choice("append", append, (None, True, False))
        self.path = expanded(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._continues = bool(append)
        self._earlier = append is not False and _has_content(self.path)  # until the first line
        self._warned = False
        self._open("a" if self._earlier else "w")
        if not self._earlier:
            self._write(*COLUMNS)

    def _open(self, mode: str) -> None:
        self._file = self.path.open(mode, encoding="utf-8", newline="")
        self._lines = csv.writer(self._file, lineterminator="\n")

    def training_resumed(self) -> None:
        """Continue the file of the earlier process; called when a checkpoint was loaded."""
        self._continues = True

    def log_single_metric(self, name: str, value: Any, x_plot: int) -> None:
        """Write one line.

        Args:
            name: name of the metric.
            value: a number of Python or NumPy, or a tensor with one element; other values are
                skipped.
            x_plot: number of the training step.
        """
        if isinstance(value, torch.Tensor) and value.numel() == 1:
            value = value.item()
        if isinstance(value, (int, float, np.integer, np.floating, np.bool_)):
            self._attempt(self._write, x_plot, name, float(value))

    def _write(self, *cells: Any) -> None:
        if self._earlier:
            self._settle()
        self._lines.writerow(cells)
        self._file.flush()

    def _settle(self) -> None:
        """Continue the earlier file, or move it aside and begin a new one."""
        text = self.path.read_text(encoding="utf-8", errors="replace")
        if self._continues and text.partition("\n")[0] == ",".join(COLUMNS):
            self._earlier = False
            self._file.write("" if text.endswith("\n") else "\n")  # the crash cut a line
            return
        self._file.close()
        aside = _free_name(self.path)
        self.path.rename(aside)
        self._open("w")
        self._earlier = False
        self._write(*COLUMNS)
        reason = "has other columns" if self._continues else "is of an earlier training"
        warnings.warn(
            f"{self.path} {reason}, and was moved to {aside.name}; append=True adds "
            "lines to the file of a training that goes on",
            stacklevel=5,
        )

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


def _has_content(path: Path) -> bool:
    """Return True if a file holds more than the names of the columns."""
    header = ",".join(COLUMNS).encode() + b"\n"
    if not path.exists():
        return False
    with path.open("rb") as file:
        return file.read(len(header) + 1) not in (b"", header)


def _free_name(path: Path) -> Path:
    """Return ``NAME.previous.SUFFIX`` beside ``path``, or with a number, which no file has."""
    number, aside = 1, path.with_name(f"{path.stem}.previous{path.suffix}")
    while aside.exists():
        number += 1
        aside = path.with_name(f"{path.stem}.previous-{number}{path.suffix}")
    return aside
