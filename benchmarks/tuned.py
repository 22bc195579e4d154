"""The tuned model of a finished run: the weights that it kept, or the run once more."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from avalanche_proxyfda.models import parse_weights
from benchmarks import engine
from benchmarks.config import Config
from benchmarks.record import Record


def tower_of(content: bytes) -> dict[str, Tensor]:
    """The tower's state in a file of weights of the whole model.

    Raises:
        ValueError: when it is no such file.
    """
    start, state = "tower.", parse_weights(content, f"what the run kept as {engine.WEIGHTS}")
    return {k.removeprefix(start): v for k, v in state.items() if k.startswith(start)}


def kept_weights(path: Path, record: Record) -> bytes | None:
    """The weights that the run kept beside its record; None if it kept none, or they are gone.

    Args:
        path: of the record.
        record: what it holds.

    Raises:
        ValueError: when the file is not the one that the run wrote.
        OSError: when it cannot be read.
    """
    name = f"{record.label}/{engine.WEIGHTS}"
    file = path.parent / name
    if name not in record.artefacts or not file.is_file():
        return None
    content = file.read_bytes()
    if hashlib.sha256(content).hexdigest() != record.artefacts[name]:
        raise ValueError(
            f"{file} is not the file that the run wrote (its SHA-256 differs from the record's): "
            "put that one back, or remove it, and the run is trained again"
        )
    return content


def trained_again(
    config: Config, after_step: Callable[[], None], threads: int
) -> tuple[bytes, Record]:
    """Train the run again: the weights of its model, and the record of this time.

    Args:
        config: of the run, with ``where.keep_weights``.
        after_step: called after each training step.
        threads: torch's, as they were: sums depend on how they are split.
    """
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / config.label
        record = engine.run(config, after_step, folder)
        return (folder / engine.WEIGHTS).read_bytes(), record
