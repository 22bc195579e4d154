"""Makes a measurement of ``python -m benchmarks perf``."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module

from benchmarks.execution.policy import check_folder
from benchmarks.perf.bounds import exceeded
from benchmarks.perf.report import write


def make_measurement(args: argparse.Namespace) -> int:
    """Measure, write the report, and print the table and the summary.

    Args:
        args: options of the command, with the name of the measurement.

    Returns:
        1 if ``--check`` is given and a value exceeds its bound, else 0.

    Raises:
        ValueError: if an option is refused, or ``--check`` has no bound to assert.
        OSError: if nothing can be written to ``--out``.
    """
    work = import_module(f"benchmarks.perf.{args.what}")
    if args.what == "page":
        return int(work.main(args))
    if args.check and not work.BOUNDS:
        raise ValueError(
            f"perf {args.what} --check: the measurement has no bound; leave out --check"
        )
    if args.out is not None:
        check_folder(args.out)
    measured = work.measure(args)
    if args.out is not None:
        write(args.out, measured, work.draw)
        print(f"{args.out / args.what}.json and .svg have been written", file=sys.stderr)
    print(work.table(measured))
    above = exceeded(measured["checked"], work.BOUNDS) if args.check else []
    print(work.line(measured) + (f"; exceeded: {'; '.join(above)}" if above else ""))
    return int(bool(above))
