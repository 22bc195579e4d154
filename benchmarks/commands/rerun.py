"""``python -m benchmarks rerun``: repeat the run of a record, and compare every number."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of ``python -m benchmarks rerun``."""
    parser.add_argument("record", type=Path, metavar="RECORD.json", help="record of a finished run")
    parser.add_argument("--data", default=None, help="folder of the data; default: the record's")


def differences(first: Any, second: Any, path: str = "") -> Iterator[str]:
    """Yield the paths at which two JSON contents differ, with both values."""
    if isinstance(first, dict) and isinstance(second, dict):
        for key in sorted({*first, *second}):
            absent = "absent"
            yield from differences(first.get(key, absent), second.get(key, absent), f"{path}.{key}")
    elif isinstance(first, list) and isinstance(second, list) and len(first) == len(second):
        for place, (one, two) in enumerate(zip(first, second, strict=True)):
            yield from differences(one, two, f"{path}[{place}]")
    elif first != second:
        yield f"{path.lstrip('.')}: {first} in the record, {second} now"


def main(args: argparse.Namespace) -> int:
    """Repeat the run.

    Returns:
        0 if every number is the record's, else 1.

    Raises:
        ValueError: if the record is refused, or the run failed.
        OSError: if the record cannot be read.
    """
    from dataclasses import replace

    from tqdm import tqdm

    from benchmarks.config import changed
    from benchmarks.experiment.prepare import planned_steps, prepare
    from benchmarks.reproduce.from_record import config_of, finished_record
    from benchmarks.reproduce.weights import trained_again

    record = finished_record(args.record)
    config = config_of(record)
    if args.data is not None:
        config = changed(config, where=replace(config.where, data=args.data))
    steps = planned_steps(config, prepare(config, only_check=True).stream)
    print(f"{record.label}: {steps} steps.", flush=True)
    with tqdm(total=steps, desc="steps", unit="step", mininterval=2) as bar:

        def stepped() -> None:
            bar.update()

        _, again = trained_again(config, stepped, record.how.machine.threads)
    different = list(differences(record.reproducible(), again.reproducible()))
    if not different:
        print("Every number of the record came out again.")
        return 0
    print(f"{len(different)} values differ from the record's:")
    for line in different[:20]:
        print(f"  {line}")
    then, now = record.how, again.how
    for name, one, two in (
        ("version of the method", then.code.version, now.code.version),
        ("processor", then.machine.processor, now.machine.processor),
        ("device", then.machine.device, now.machine.device),
        *((library, v, now.versions.get(library)) for library, v in then.versions.items()),
    ):
        if one != two:
            print(f"  {name}: {one} then, {two} now")
    return 1
