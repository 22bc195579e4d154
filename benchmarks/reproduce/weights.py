"""The tuned model of a finished run: its saved weights, or the weights of a repetition."""

from __future__ import annotations

import hashlib
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from avalanche_proxyfda.models import parse_weights
from avalanche_proxyfda.tuned import DESCRIPTION, WEIGHTS
from benchmarks.config import Config
from benchmarks.experiment.prepare import Prepared, planned_steps, prepare
from benchmarks.experiment.run import run
from benchmarks.reproduce.compare import Repetition
from benchmarks.reproduce.same_images import check_images
from benchmarks.results.record import Record

_ROOM = "make room there, or name another folder in the variable TMPDIR"


def tower_of(content: bytes) -> dict[str, Tensor]:
    """Read the state of the tower from the saved weights of a model.

    Args:
        content: content of the weights file.

    Raises:
        ValueError: if the content is no weights file.
    """
    start, state = "tower.", parse_weights(content, f"what the run kept as {WEIGHTS}")
    return {k.removeprefix(start): v for k, v in state.items() if k.startswith(start)}


def kept_weights(path: Path, record: Record) -> bytes | None:
    """Read the weights that the run saved beside its record.

    Args:
        path: path of the record.
        record: record of the run.

    Returns:
        Content of the weights file; None if the run saved none, or the file is missing.

    Raises:
        ValueError: if the file is not the file that the run wrote.
        OSError: if the file cannot be read.
    """
    return _kept(path, record, WEIGHTS)


def kept_description(path: Path, record: Record) -> bytes | None:
    """Read the description of the model that the run saved; see :func:`kept_weights`."""
    return _kept(path, record, DESCRIPTION)


def _kept(path: Path, record: Record, file_name: str) -> bytes | None:
    name = f"{record.label}/{file_name}"
    file = path.parent / name
    if name not in record.artefacts or not file.is_file():
        return None
    content = file.read_bytes()
    if hashlib.sha256(content).hexdigest() != record.artefacts[name]:
        raise ValueError(
            f"{file} is not the file that the run wrote (its SHA-256 differs from the record's): "
            "restore the run's file, or remove it to train the run again"
        )
    return content


def trained_again(
    config: Config, after_step: Callable[[int], object], threads: int
) -> tuple[bytes | None, Record]:
    """Train the run again.

    Args:
        config: configuration of the run.
        after_step: function to call with 1 after each training step.
        threads: number of torch's threads in the run; sums depend on it.

    Returns:
        Content of the weights file, which is None without ``where.keep_weights``, and the record
        of the repetition.

    Raises:
        OSError: if the temporary folder cannot hold the weights.
    """
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / config.label
        record = run(config, after_step, folder)
        if not config.where.keep_weights:
            return None, record
        if not (folder / WEIGHTS).is_file():
            raise OSError(
                f"{config.label} was trained again, and its model could not be written to the "
                f"temporary folder {tempfile.gettempdir()} (the warning above says why): {_ROOM}"
            )
        return (folder / WEIGHTS).read_bytes(), record


def _check_room(prepared: Prepared) -> None:
    """Refuse a temporary folder without room for the weights, before the training.

    Raises:
        OSError: names the folder, the size and the remedy.
    """
    place, state = tempfile.gettempdir(), prepared.model.state_dict().values()
    tensors = [value for value in state if isinstance(value, Tensor)]
    needed = sum(value.numel() * value.element_size() for value in tensors)
    free = shutil.disk_usage(place).free
    if free < needed:
        raise OSError(
            f"the temporary folder {place} has {free >> 20} MiB left, and the model has "
            f"{-(-needed >> 20)} MiB: {_ROOM}"
        )


def repeated(config: Config, record: Record) -> tuple[bytes | None, Record]:
    """Train the run of a record again, with a progress bar on the standard error.

    Args:
        config: configuration of the run.
        record: record of the run; the repetition has as many threads.

    Returns:
        Content of the weights file, which is None without ``where.keep_weights``, and the record
        of the repetition.

    Raises:
        ValueError: if the images are not those of the run.
        OSError: if the temporary folder cannot hold the weights.
    """
    prepared = prepare(config, only_check=True)
    check_images(prepared, record)
    if config.where.keep_weights:
        _check_room(prepared)
    steps = planned_steps(config, prepared.stream)
    print(f"{record.label}: {steps} steps.", flush=True)
    with tqdm(total=steps, desc="steps", unit="step", mininterval=2) as bar:
        return trained_again(config, bar.update, record.how.machine.threads)


def weights_again(config: Config, record: Record, effect: str) -> tuple[bytes, Record, str]:
    """Train a run again that kept no weights, and print how the repetition compares.

    Args:
        config: configuration of the run, with ``where.keep_weights``.
        record: record of the run.
        effect: where another model would be seen, for the warning: subject and verb.

    Returns:
        Content of the weights file, the record of that model, and a note for readers of the
        result; the note is empty if every number came out again.

    Raises:
        ValueError: if the images are not those of the run.
        OSError: if the temporary folder cannot hold the weights.
    """
    print("The run kept no weights (where.keep_weights=true does): training it again.", flush=True)
    content, again = repeated(config, record)
    assert content is not None  # the configuration keeps the weights
    repetition = Repetition.of(record, again)
    if not repetition.differing:
        print("The run was reproduced: all its numbers are those of the record.")
        return content, record, ""
    if repetition.holds:
        print("The run was reproduced within the tolerance for another machine.")
        return content, again, "Trained again on another machine, within the tolerance. "
    then, now = record.how.machine, again.how.machine
    print(
        "WARNING: THE RUN WAS NOT REPRODUCED: trained again, it gave other numbers than the "
        f"record's.\n{effect} the model of this time, not the record's. Then: "
        f"{then.processor}, {then.device}, {then.threads} threads; now: {now.processor}, "
        f"{now.device}, {now.threads} threads.",
        file=sys.stderr,
    )
    return content, again, "Trained again, with other numbers than the record's. "
