"""Writes the files of the board."""

from __future__ import annotations

from pathlib import Path

from avalanche_proxyfda._files import write_bytes
from benchmarks.board.figures import figures
from benchmarks.board.model import Board, make_board
from benchmarks.board.page import page
from benchmarks.board.reported_text import reported_csv
from benchmarks.board.text import markdown, rows_csv, runs_csv
from benchmarks.methods import registry
from benchmarks.results.files import Collected
from benchmarks.results.published_files import shipped_tables

REPORTED = "reported.csv"
"""Name of the file of published figures; a board without such figures has no such file."""


def current_versions() -> dict[str, int]:
    """Return the present version of each method."""
    return {name: method.version for name, method in registry.METHODS.items()}


def board_of(collected: Collected, seeds: int | None = None) -> Board:
    """Return the board of records, with the methods' present versions and the shipped tables."""
    return make_board(collected, current_versions(), seeds, shipped_tables())


def write_board(collected: Collected, out: Path, seeds: int | None = None) -> Path:
    """Write page, Markdown, CSV and figures; return the path of the page.

    Published figures have a CSV file of their own, if any comparison shows some.

    Args:
        collected: records, and files that are not used.
        out: folder of the files.
        seeds: number of seeds that a row should have; see ``make_board``.

    Raises:
        OSError: if a file cannot be written.
        ValueError: if a file of published figures is refused.
    """
    board = board_of(collected, seeds)
    files = {
        "index.html": page(board).encode(),
        "board.md": markdown(board).encode(),
        "board.csv": rows_csv(board).encode(),
        "runs.csv": runs_csv(board).encode(),
        **figures(board),
    }
    reported = reported_csv(board)
    if reported is not None:
        files[REPORTED] = reported.encode()
    for name, content in files.items():
        write_bytes(out / name, content)
    if reported is None:
        (out / REPORTED).unlink(missing_ok=True)
    for kind in ("paths", "differences"):  # figures of an earlier board that had more comparisons
        for old in out.glob(f"figure-*-{kind}.*"):
            if old.name not in files and old.suffix in (".svg", ".png"):
                old.unlink()
    return out / "index.html"
