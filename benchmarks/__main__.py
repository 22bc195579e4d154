"""``python -m benchmarks JOB``: demo, run, sweep, board, features, rerun or perf."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from benchmarks.quiet import quiet
from benchmarks.ranks import refuse


def make_parser() -> argparse.ArgumentParser:
    """The command line of all jobs."""
    from benchmarks import demo, features, rerun, run
    from benchmarks.board import command as board
    from benchmarks.perf import command as perf
    from benchmarks.sweep import command as sweep

    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Run benchmarks.")
    jobs = parser.add_subparsers(dest="job", required=True)
    shape: dict[str, Any] = {"formatter_class": argparse.ArgumentDefaultsHelpFormatter}
    for name, module, about, how in (
        ("demo", demo, "methods over their strengths on the embedded stream", shape),
        ("run", run, "a recipe: a method on a stream, or the methods that it lists", {}),
        ("sweep", sweep,
         "a matrix: streams, methods, seeds and strengths; goes on where it stopped", {}),
        ("board", board, "records as tables, figures and one page", {}),
        ("rerun", rerun, "make the run of a record again, and compare number by number", {}),
        ("features", features,
         "a data set's features before and after a run, side by side: what was forgotten", {}),
        ("perf", perf, "what methods cost: step times, memory, scaling, the teacher's cache", {}),
    ):  # fmt: skip
        job = jobs.add_parser(name, help=about, description=about, **how)
        module.add_options(job)
        job.set_defaults(work=module.main)
    return parser


def main() -> int:
    """Dispatch to a job; returns its exit status."""
    quiet()
    args = make_parser().parse_args()
    try:
        refuse(args.job)
        return int(args.work(args))
    except (ValueError, OSError, ImportError) as error:  # of what was asked for
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
