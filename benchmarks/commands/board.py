"""``python -m benchmarks board``: records in, the board out."""

from __future__ import annotations

import argparse
import sys

from avalanche_proxyfda._files import expanded
from benchmarks.board.write import write_board
from benchmarks.execution.policy import check_folder
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
    """Write the board and print its path.

    Returns:
        0 if one record or more was used, else 1; the board then lists the refused files.

    Raises:
        OSError: if nothing can be written to the folder of the board.
    """
    if args.seeds is not None and args.seeds < 1:
        raise ValueError(f"--seeds {args.seeds}: at least one")
    collected = collect(args.records)
    first = args.records[0]
    out = args.out or (first if first.is_dir() else first.parent) / "board"
    check_folder(out)
    page = write_board(collected, out, args.seeds)
    failed = sum(record.status == "failed" for record in collected.records)
    count = len(collected.records)
    print(f"{count} run{'' if count == 1 else 's'}, {failed} of them failed.")
    for name, reason in collected.refused.items():
        print(f"not used: {name}: {reason}")
    print(page)
    if not collected.records:
        print("No record was used: every file was refused.", file=sys.stderr)
    return int(not collected.records)
