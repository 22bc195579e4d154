"""Writes the files of the board."""

from __future__ import annotations

from pathlib import Path

from avalanche_proxyfda._files import write_bytes
from benchmarks.board.figures import figures
from benchmarks.board.model import Board, make_board
from benchmarks.board.page import page
from benchmarks.board.text import markdown, rows_csv, runs_csv
from benchmarks.methods import registry
from benchmarks.results.files import Collected


def current_versions() -> dict[str, int]:
    """Return the present version of each method."""
    return {name: method.version for name, method in registry.METHODS.items()}


def board_of(collected: Collected, seeds: int | None = None) -> Board:
    """Return the board of records, with the present versions of the methods."""
    return make_board(collected, current_versions(), seeds)


def write_board(collected: Collected, out: Path, seeds: int | None = None) -> Path:
    """Write page, Markdown, CSV and figures; return the path of the page.

    Args:
        collected: records, and files that are not used.
        out: folder of the files.
        seeds: number of seeds that a row should have; see ``make_board``.

    Raises:
        OSError: if a file cannot be written.
    """
    board = board_of(collected, seeds)
    files = {
        "index.html": page(board).encode(),
        "board.md": markdown(board).encode(),
        "board.csv": rows_csv(board).encode(),
        "runs.csv": runs_csv(board).encode(),
        **figures(board),
    }
    for name, content in files.items():
        write_bytes(out / name, content)
    for kind in ("paths", "differences"):  # figures of an earlier board that had more comparisons
        for old in out.glob(f"figure-*-{kind}.*"):
            if old.name not in files and old.suffix in (".svg", ".png"):
                old.unlink()
    return out / "index.html"
