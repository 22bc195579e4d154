"""``python -m benchmarks rerun``: make a record's run again, and compare number by number."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of ``python -m benchmarks rerun``."""
    parser.add_argument("record", type=Path, metavar="RECORD.json", help="of a finished run")
    parser.add_argument(
        "--data", default=None, help="where the data are here; default: as the record says"
    )


def differences(first: Any, second: Any, path: str = "") -> Iterator[str]:
    """Where two contents of JSON differ, with both values."""
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
    """Run again; 0 if every number came out again, 1 if not."""
    from dataclasses import replace

    from tqdm import tqdm

    from benchmarks.config import changed
    from benchmarks.prepare import planned_steps, prepare
    from benchmarks.revisit import config_of, finished_record
    from benchmarks.tuned import trained_again

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
    found = list(differences(record.reproducible(), again.reproducible()))
    if not found:
        print("Every number of the record came out again.")
        return 0
    print(f"{len(found)} values differ from the record's:")
    for line in found[:20]:
        print(f"  {line}")
    then, now = record.how, again.how
    for what, one, two in (
        ("version of the method", then.code.version, now.code.version),
        ("processor", then.machine.processor, now.machine.processor),
        ("device", then.machine.device, now.machine.device),
        *((name, v, now.versions.get(name)) for name, v in then.versions.items()),
    ):
        if one != two:
            print(f"  {what}: {one} then, {two} now")
    return 1
