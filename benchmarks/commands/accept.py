"""``python -m benchmarks accept``: what works on this machine's accelerator, in one table."""

from __future__ import annotations

import argparse
from pathlib import Path

from avalanche_proxyfda._files import expanded
from benchmarks.accept.groups import GROUPS
from benchmarks.commands import work


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of ``python -m benchmarks accept``."""
    parser.add_argument(
        "--device", default="auto", help="device under acceptance; auto takes an accelerator"
    )
    parser.add_argument(
        "--out",
        type=expanded,
        default=Path("accept.json"),
        metavar="FILE.json",
        help="report; the same command goes on from it; default: accept.json",
    )
    parser.add_argument(
        "--only",
        nargs="+",
        default=None,
        metavar="GROUP",
        help="groups of checks, such as: losses training runner; default: all",
    )
    parser.add_argument("--times", action="store_true", help="measure step times too")
    parser.add_argument("--quick", action="store_true", help="the smallest size of each check")
    parser.add_argument(
        "--again",
        action="store_false",
        dest="resume",
        help="forget the report and start anew",
    )


def main(args: argparse.Namespace) -> int:
    """Make the checks, and print the table.

    Returns:
        0 if no check failed, else 1.

    Raises:
        ValueError: for an unknown device or group, or a file that is no report.
        OSError: if the report cannot be read or written.
    """
    unknown = sorted(set(args.only or ()) - set(GROUPS))
    if unknown:
        raise ValueError(f"--only {' '.join(unknown)}: the groups are {', '.join(GROUPS)}")
    return work.make_checks(args)
