"""``python -m benchmarks board``: records in, the board out."""

from __future__ import annotations

import argparse

from avalanche_proxyfda._files import expanded
from benchmarks.board.write import write_board
from benchmarks.results.files import collect


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of ``python -m benchmarks board``."""
    parser.add_argument(
        "records",
        nargs="+",
        type=expanded,
        metavar="RECORDS",
        help="files, or folders that are searched for *.json",
    )
    parser.add_argument(
        "--out",
        type=expanded,
        default=None,
        metavar="DIR",
        help="where to write; default: board/ in the first folder of records",
    )
    parser.add_argument(
        "--seeds",
        type=int,
        default=None,
        help="how many a row must have to be ranked; default: the most that any has",
    )


def main(args: argparse.Namespace) -> int:
    """Write the board and print its path."""
    if args.seeds is not None and args.seeds < 1:
        raise ValueError(f"--seeds {args.seeds}: at least one")
    collected = collect(args.records)
    first = args.records[0]
    out = args.out or (first if first.is_dir() else first.parent) / "board"
    page = write_board(collected, out, args.seeds)
    failed = sum(record.status == "failed" for record in collected.records)
    print(f"{len(collected.records)} runs, {failed} of them failed.")
    for name, reason in collected.refused.items():
        print(f"not used: {name}: {reason}")
    print(page)
    return 0
