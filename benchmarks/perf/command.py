"""``python -m benchmarks perf WHAT``: step times, memory, scaling, the teacher's cache."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from pathlib import Path

MEASURED = {
    "overhead": "step time of every method against plain fine-tuning",
    "memory": "bytes that the losses keep for backward, and hold at most",
    "scaling": "time of the losses over B, D and K, and of steps on one rank and two",
    "cache": "the teacher's cache: hits, cost while it fills and when it is full, bytes",
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of ``python -m benchmarks perf``."""
    jobs = parser.add_subparsers(dest="what", required=True)
    for name, about in MEASURED.items():
        job = jobs.add_parser(name, help=about, description=about)
        job.add_argument("--out", type=Path, default=None, help="folder of a JSON and a figure")
        job.add_argument("--check", action="store_true", help="status 1 when a bound is exceeded")
        job.add_argument("--quick", action="store_true", help="small and short, to try it")
        import_module(f"benchmarks.perf.{name}").add_options(job)
    about = "put the tables of reports into a page"
    import_module("benchmarks.perf.page").add_options(
        jobs.add_parser("page", help=about, description=about)
    )


def main(args: argparse.Namespace) -> int:
    """Measure, write, print; the summary comes last. 1 when a bound is exceeded."""
    work = import_module(f"benchmarks.perf.{args.what}")
    if args.what not in MEASURED:
        return int(work.main(args))
    from benchmarks.perf.bounds import exceeded
    from benchmarks.perf.report import write

    if args.check and not work.BOUNDS:
        raise ValueError(f"perf {args.what} --check: it has no bound")
    made = work.measure(args)
    if args.out is not None:
        write(args.out, made, work.draw)
        print(f"{args.out / args.what}.json and .svg are written", file=sys.stderr)
    print(work.table(made))
    above = exceeded(made["checked"], work.BOUNDS) if args.check else []
    print(work.line(made) + (f"; exceeded: {'; '.join(above)}" if above else ""))
    return int(bool(above))
