"""Markdown tables and CSV of cells whose text nobody checked."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable

from benchmarks.board.words import MINUS


def markdown_cell(text: str) -> str:
    """Escape text, so that it is no markup and does not end a cell of a Markdown table."""
    for sign in "\\|<>*_`[]":
        text = text.replace(sign, f"\\{sign}" if sign not in "<>" else f"&#{ord(sign)};")
    return " ".join(text.split())


def markdown_table(lines: Iterable[list[str]]) -> list[str]:
    """Return the lines of a table; the first line is the head, and cells are escaped already."""
    head, *body = lines
    return ["| " + " | ".join(cells) + " |" for cells in [head, ["---"] * len(head), *body]]


def csv_text(lines: Iterable[Iterable[object]]) -> str:
    """Return CSV; None is an empty cell, and no cell is a formula of a spreadsheet."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for line in lines:
        writer.writerow(["" if value is None else _safe(value) for value in line])
    return text.getvalue()


def _safe(value: object) -> object:
    """Quote text that a spreadsheet would read as a formula."""
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", MINUS, "\t", "\r"):
        return f"'{value}"
    return value
