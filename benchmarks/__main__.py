"""``python -m benchmarks JOB``: demo, run, sweep, board, features or rerun."""

from __future__ import annotations

import argparse
import sys

from benchmarks.quiet import quiet


def main() -> int:
    """Dispatch to a job; returns its exit status."""
    quiet()
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Run benchmarks.")
    jobs = parser.add_subparsers(dest="job", required=True)
    from benchmarks import demo, features, rerun, run
    from benchmarks.board import command as board
    from benchmarks.sweep import command as sweep

    about = "methods over their strengths on the embedded stream"
    shape = argparse.ArgumentDefaultsHelpFormatter
    demo.add_options(jobs.add_parser("demo", help=about, description=about, formatter_class=shape))
    about = "a recipe: a method on a stream, or the methods that it lists"
    run.add_options(jobs.add_parser("run", help=about, description=about))
    about = "a matrix: streams, methods, seeds and strengths; goes on where it stopped"
    sweep.add_options(jobs.add_parser("sweep", help=about, description=about))
    about = "a data set's features before and after a run, side by side: what was forgotten"
    features.add_options(jobs.add_parser("features", help=about, description=about))
    about = "records as tables, figures and one page"
    board.add_options(jobs.add_parser("board", help=about, description=about))
    about = "make the run of a record again, and compare number by number"
    rerun.add_options(jobs.add_parser("rerun", help=about, description=about))
    args = parser.parse_args()
    work = {
        "demo": demo.main,
        "run": run.main,
        "sweep": sweep.main,
        "board": board.main,
        "features": features.main,
        "rerun": rerun.main,
    }
    try:
        return work[args.job](args)
    except (ValueError, OSError, ImportError) as error:  # of what was asked for
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
