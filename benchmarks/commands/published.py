"""``python -m benchmarks published``: figures that papers report, as a Markdown page."""

from __future__ import annotations

import argparse

from avalanche_proxyfda._files import expanded, write_bytes
from benchmarks.board.published import published_page
from benchmarks.execution.policy import check_file
from benchmarks.results.published_files import shipped_tables


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of ``python -m benchmarks published``."""
    parser.add_argument(
        "--out", type=expanded, required=True, metavar="FILE", help="the page, such as published.md"
    )


def main(args: argparse.Namespace) -> int:
    """Write the page and print its path.

    Raises:
        OSError: if the page cannot be written.
    """
    check_file(args.out)
    tables = shipped_tables()
    write_bytes(args.out, published_page(tables).encode())
    print(f"{len(tables)} tables: reported, not run here.")
    print(args.out)
    return 0
