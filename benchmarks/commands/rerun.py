"""``python -m benchmarks rerun``: repeats the run of a record, and compares every number."""

from __future__ import annotations

import argparse
from dataclasses import replace

from avalanche_proxyfda._files import expanded
from benchmarks.commands import work
from benchmarks.config import parse_overrides
from benchmarks.reproduce.here import add_places, here_of
from benchmarks.reproduce.recorded import config_in, finished_record, for_repetition, with_set


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
        help="set keys that do not change the numbers, as in where.data=DIR where.device=cpu",
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
    if "where.data" in overrides and args.data is not None:
        raise ValueError("--set where.data: --data sets it too; drop one of the two")
    if "where.data" in overrides:
        here = replace(here, data=str(overrides.pop("where.data")))
    if overrides.get("where.keep_weights"):
        raise ValueError(
            "--set where.keep_weights: rerun compares numbers and keeps no model; leave it out, "
            f"and let python -m benchmarks export {args.record} write the model"
        )
    config = for_repetition(config_in(record, here), record, keep_weights=False)
    with_set(config, overrides)  # what is refused is refused before torch is imported
    return work.repeat_run(args, record, here, overrides)
