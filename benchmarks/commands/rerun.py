"""``python -m benchmarks rerun``: repeats the run of a record, and compares every number."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from benchmarks.config import changed
from benchmarks.reproduce.compare import Repetition
from benchmarks.reproduce.from_record import config_of, finished_record
from benchmarks.reproduce.weights import repeated


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of ``python -m benchmarks rerun``."""
    parser.add_argument("record", type=Path, metavar="RECORD.json", help="record of a finished run")
    parser.add_argument("--data", default=None, help="folder of the data; default: the record's")
    parser.add_argument(
        "--all", action="store_true", help="list every value that differs, not the first alone"
    )


def main(args: argparse.Namespace) -> int:
    """Repeat the run.

    Returns:
        0 if every number is the record's, or on another machine within the tolerance; else 1.

    Raises:
        ValueError: if the record is refused, or the run failed.
        OSError: if the record cannot be read.
    """
    record = finished_record(args.record)
    config = config_of(record)
    if args.data is not None:
        config = changed(config, where=replace(config.where, data=args.data))
    _, again = repeated(config, record)
    repetition = Repetition.of(record, again)
    print("\n".join(repetition.report(args.all)))
    return int(not repetition.holds)
