"""Writes the model of ``python -m benchmarks export``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from avalanche_proxyfda._files import write_bytes
from avalanche_proxyfda.tuned import DESCRIPTION, WEIGHTS, tuned_files
from avalanche_proxyfda.tuned.description import parse
from benchmarks.execution.policy import check_folder
from benchmarks.experiment.kept import description_of
from benchmarks.experiment.prepare import prepare
from benchmarks.reproduce.from_record import config_of
from benchmarks.reproduce.here import Here
from benchmarks.reproduce.weights import kept_description, kept_weights, weights_again
from benchmarks.results.record import Record


def export_model(args: argparse.Namespace, record: Record, here: Here) -> int:
    """Write the model's two files, print how to use them, and return 0.

    Args:
        args: options of the command.
        record: record of the finished run.
        here: places of the data on this machine.

    Raises:
        ValueError: if the model of the run cannot be described, or made again.
        OSError: if a file cannot be read or written.
    """
    out = args.out or args.record.parent / "exported" / record.label
    check_folder(out)
    files = _files(args.record, record, here)
    for name, content in files.items():
        write_bytes(out / name, content)
        print(out / name)
    described, _ = parse(files[DESCRIPTION].decode())
    print(usage(out, [task.name for task in described.tasks]))
    return 0


def usage(out: Path, tasks: Sequence[str]) -> str:
    """Return lines of Python that use the model; with several tasks, they name one.

    Args:
        out: folder of the model.
        tasks: names of the model's tasks, at least one.
    """
    call, note = f"load_tuned({str(out)!r}).predict(FOLDER", "names and probabilities"
    if len(tasks) > 1:
        call += f", task={tasks[0]!r}"
        note += f"; the other tasks: {', '.join(map(repr, tasks[1:]))}"
    return f"In Python: from avalanche_proxyfda import load_tuned\n           {call})  # {note}"


def _files(path: Path, record: Record, here: Here) -> dict[str, bytes]:
    weights, description = kept_weights(path, record), kept_description(path, record)
    if weights is not None and description is not None:
        return {WEIGHTS: weights, DESCRIPTION: description}
    config = config_of(record, here)
    if weights is None:
        weights, _, _ = weights_again(config, record, "The files hold")
    return tuned_files(description_of(config, prepare(config, only_check=True)), weights)
