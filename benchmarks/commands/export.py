"""``python -m benchmarks export``: the tuned model of a run, to take home."""

from __future__ import annotations

import argparse

from avalanche_proxyfda._files import expanded
from benchmarks.commands import work
from benchmarks.reproduce.here import add_places, here_of
from benchmarks.reproduce.recorded import finished_record


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of ``python -m benchmarks export``."""
    parser.add_argument(
        "record", type=expanded, metavar="RECORD.json", help="record of a finished run"
    )
    parser.add_argument(
        "--out",
        type=expanded,
        default=None,
        metavar="DIR",
        help="folder of model.safetensors and model.json; default: exported/RUN beside the record",
    )
    add_places(parser)


def main(args: argparse.Namespace) -> int:
    """Write the model's two files, print how to use them, and return 0.

    A run that kept no weights is trained again.

    Raises:
        ValueError: if the record is refused, the run failed, or its model cannot be described.
        OSError: if a file cannot be read or written.
    """
    record, here = finished_record(args.record), here_of(args)
    return work.export_model(args, record, here)
