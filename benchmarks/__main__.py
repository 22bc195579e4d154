"""``python -m benchmarks demo | run``."""

from __future__ import annotations

import argparse
import sys

from benchmarks.quiet import quiet


def main() -> int:
    """Dispatch to a job; returns its exit status."""
    quiet()
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Run benchmarks.")
    jobs = parser.add_subparsers(dest="job", required=True)
    from benchmarks import demo, run
    from benchmarks.sweep import command as sweep

    about = "methods over their strengths on the embedded stream"
    shape = argparse.ArgumentDefaultsHelpFormatter
    demo.add_options(jobs.add_parser("demo", help=about, description=about, formatter_class=shape))
    about = "a recipe: a method on a stream, or the methods that it lists"
    run.add_options(jobs.add_parser("run", help=about, description=about))
    about = "a matrix: streams, methods, seeds and strengths; goes on where it stopped"
    sweep.add_options(jobs.add_parser("sweep", help=about, description=about))
    args = parser.parse_args()
    work = {"demo": demo.main, "run": run.main, "sweep": sweep.main}
    try:
        return work[args.job](args)
    except (ValueError, OSError, ImportError) as error:  # of what was asked for
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
