"""``python -m benchmarks demo``."""

from __future__ import annotations

import argparse
import sys

from benchmarks.quiet import quiet


def main() -> int:
    """Dispatch to a job; returns its exit status."""
    quiet()
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Run benchmarks.")
    jobs = parser.add_subparsers(dest="job", required=True)
    from benchmarks import demo

    about = "methods over their strengths on the embedded stream"
    shape = argparse.ArgumentDefaultsHelpFormatter
    demo.add_options(jobs.add_parser("demo", help=about, description=about, formatter_class=shape))
    args = parser.parse_args()
    try:
        return demo.main(args)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
