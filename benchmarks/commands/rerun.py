"""``python -m benchmarks rerun``: repeat the run of a record, and compare every number."""

from __future__ import annotations

import argparse
from dataclasses import replace

from avalanche_proxyfda._files import expanded
from benchmarks.config import changed
from benchmarks.reproduce.compare import changed_provenance, differences
from benchmarks.reproduce.from_record import config_of, finished_record
from benchmarks.reproduce.weights import repeated

_MOST_SHOWN = 20


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of ``python -m benchmarks rerun``."""
    parser.add_argument(
        "record", type=expanded, metavar="RECORD.json", help="record of a finished run"
    )
    parser.add_argument("--data", default=None, help="folder of the data; default: the record's")


def main(args: argparse.Namespace) -> int:
    """Repeat the run.

    Returns:
        0 if every number is the record's, else 1.

    Raises:
        ValueError: if the record is refused, or the run failed.
        OSError: if the record cannot be read.
    """
    record = finished_record(args.record)
    config = config_of(record)
    if args.data is not None:
        config = changed(config, where=replace(config.where, data=args.data))
    _, again = repeated(config, record)
    different = list(differences(record.reproducible(), again.reproducible()))
    if not different:
        print("Every number of the record came out again.")
        return 0
    print(f"{len(different)} values differ from the record's:")
    for line in (*different[:_MOST_SHOWN], *changed_provenance(record.how, again.how)):
        print(f"  {line}")
    return 1
