"""All that the board consists of, as files."""

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
    """Present version of each method."""
    return {name: method.version for name, method in registry.METHODS.items()}


def board_of(found: Collected, seeds: int | None = None) -> Board:
    """The board of records, against the present versions of the methods."""
    return make_board(found, current_versions(), seeds)


def write_board(found: Collected, out: Path, seeds: int | None = None) -> Path:
    """Write page, Markdown, CSV and figures; returns the page's path.

    Raises:
        OSError: when they cannot be written.
    """
    board = board_of(found, seeds)
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
