"""``python -m benchmarks rerun``: repeats the run of a record, and compares every number."""

from __future__ import annotations

import argparse
from dataclasses import replace

from pydantic import ValidationError

from avalanche_proxyfda._files import expanded
from benchmarks.config import complaint, parse_overrides, plain, read
from benchmarks.config.known_keys import KEYS, check_keys
from benchmarks.config.overrides import with_overrides
from benchmarks.reproduce.compare import Repetition
from benchmarks.reproduce.from_record import config_of, finished_record
from benchmarks.reproduce.here import add_places, here_of
from benchmarks.reproduce.weights import repeated


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of ``python -m benchmarks rerun``."""
    parser.add_argument(
        "record", type=expanded, metavar="RECORD.json", help="record of a finished run"
    )
    add_places(parser)
    parser.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="where.KEY=VALUE",
        dest="overrides",
        help="change keys that do not change the run: where.data=DIR where.device=cpu",
    )
    parser.add_argument(
        "--all", action="store_true", help="list every value that differs, not the first alone"
    )


def main(args: argparse.Namespace) -> int:
    """Repeat the run.

    Returns:
        0 if every number is the record's, or on another machine within the tolerance; else 1.

    Raises:
        ValueError: if the record is refused, the run failed, a place is not known, or the images
            are not those of the run.
        OSError: if the record cannot be read.
    """
    record, overrides = finished_record(args.record), parse_overrides(args.overrides)
    others = [key for key in overrides if not key.startswith("where.")]
    if others:
        raise ValueError(f"--set {others[0]}: it makes another run; only keys of where may change")
    here = here_of(args)
    data = overrides.pop("where.data", None)
    config = config_of(record, here if data is None else replace(here, data=str(data)))
    if overrides:
        content = with_overrides(plain(config), overrides)
        check_keys(content, KEYS)
        try:
            config = read(content)
        except ValidationError as error:
            raise ValueError(f"--set: {complaint(error)}") from None
    _, again = repeated(config, record)
    repetition = Repetition.of(record, again)
    print("\n".join(repetition.report(args.all)))
    return int(not repetition.holds)
