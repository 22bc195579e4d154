"""Repeats the run of ``python -m benchmarks rerun``."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from benchmarks.reproduce.compare import Repetition
from benchmarks.reproduce.from_record import config_of
from benchmarks.reproduce.here import Here
from benchmarks.reproduce.recorded import with_set
from benchmarks.reproduce.weights import repeated
from benchmarks.results.record import Record


def repeat_run(
    args: argparse.Namespace, record: Record, here: Here, overrides: Mapping[str, Any]
) -> int:
    """Repeat the run, and print how its numbers compare.

    Args:
        args: options of the command.
        record: record of the finished run.
        here: places of the data on this machine.
        overrides: keys of ``where`` to change.

    Returns:
        0 if every number is the record's, or on another machine within the tolerance; else 1.

    Raises:
        ValueError: if this version does not accept the configuration, or the images are not those
            of the run.
    """
    config = with_set(config_of(record, here, keep_weights=False), overrides)
    _, again = repeated(config, record)
    repetition = Repetition.of(record, again)
    print("\n".join(repetition.report(args.all)))
    return int(not repetition.holds)
