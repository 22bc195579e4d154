"""The legend of the board in Markdown: columns, notes, and what a second machine confirms."""

from __future__ import annotations

from benchmarks.board.cells import markdown_cell
from benchmarks.board.columns import COLUMNS
from benchmarks.board.marks import OTHERWISE
from benchmarks.board.model import Board
from benchmarks.results.settings import hardware

_NOTES = (
    "*front*: no other setting of the table beats it in both learning (Last) and keeping (Δ\\_LP, "
    "else BWT). *too few seeds*, *mixed splits*, *other split*: not ranked, below the others. "
    "*trained otherwise*: by other keys of training or head than {plain}. *mixed "
    "machines*, *other machine*: no step cost, which is a ratio of times on one machine. *stale*: "
    "the method's version was raised since. *uncommitted*: the code had changes that no commit "
    "has. *failed*: some runs ended with an error. *confirmed*: several records of one run agree "
    "within the tolerance."
)


def legend(board: Board) -> list[str]:
    """Return the legend's lines; a board without a comparison has none."""
    entries = [entry for c in board.comparisons for entry in c.entries]
    if not entries:
        return []
    shown = [c for c in COLUMNS if any(entry.cells[c.key] is not None for entry in entries)]
    return [
        "**How to read the tables.**",
        "",
        *(
            f"- **{markdown_cell(c.title)}**: {markdown_cell(c.about)} "
            f"{'More' if c.better == 'more' else 'Less'} is better."
            for c in shown
        ),
        f"- **notes**: {_NOTES.format(plain=compared_with(board))}",
        f"- **A second machine**: {confirmed_elsewhere(board)}",
        "",
    ]


def compared_with(board: Board) -> str:
    """Return the rows whose training the mark *trained otherwise* compares with."""
    marked = {
        comparison.baseline is not None
        for comparison in board.comparisons
        for entry in comparison.entries
        if any(mark.word == OTHERWISE for mark in entry.marks)
    }
    if False not in marked:
        return "plain fine-tuning"
    most = "most rows of the table"
    return f"plain fine-tuning, or {most} without it" if True in marked else most


def confirmed_elsewhere(board: Board) -> str:
    """Return a sentence about the runs that records of two machines or more confirm."""
    entries = [entry for c in board.comparisons for entry in c.entries]
    total = sum(len(entry.row.finished) for entry in entries)
    several = [same for entry in entries for same in entry.confirmations.values()]
    count = sum(len({hardware(record) for record in same}) > 1 for same in several)
    if count == 0:
        return "no seed is confirmed by a second machine."
    return f"{count} of the {total} runs (a setting with a seed) have records of two or more."
