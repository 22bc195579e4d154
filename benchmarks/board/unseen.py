"""Transfer and Last of each data set of a stream, where whole accuracy matrices are recorded."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence

from benchmarks.board.cells import markdown_cell, markdown_table
from benchmarks.results.scores import outcome_of
from benchmarks.results.settings import Row
from benchmarks.results.transfer import transfer_by_set, untrained_by_set

TITLE = "Each data set: still to come, and at the end"
ABOUT = (
    "Transfer: test accuracy of a data set, the mean over the moments before the set is learnt and "
    "after at least one other was (%); the first data set has none. Last: the accuracy at the end "
    "(%). Before training: the accuracy before the stream (%). All are means over seeds."
)
_UNTRAINED = "before training"


def unseen_lines(named: Iterable[tuple[str, Row]]) -> list[list[str]]:
    """Return the table as cells, the head first; empty if no run has a whole matrix.

    A method has a line of Transfer and a line of Last. The lines of before training come first;
    there is one for all methods if these start with the same accuracies.

    Args:
        named: rows of one comparison, each with its name.
    """
    head: list[str] = []
    untrained: list[list[str]] = []
    lines = []
    for name, row in named:
        matrices = [outcome_of(record).accuracy for record in row.finished]
        transfers = [values for m in matrices if (values := transfer_by_set(m)) is not None]
        if not transfers:
            continue
        stream = row.finished[0].stream
        assert stream is not None  # a finished record is whole
        head = head or ["", "", *stream.experiences]
        befores = [values for m in matrices if (values := untrained_by_set(m)) is not None]
        if befores:
            untrained.append([f"{name}, {_UNTRAINED}", "accuracy", "–", *_means(befores)])
        lines.append([name, "Transfer", "–", *_means(transfers)])
        lines.append([name, "Last", *_means([[a or 0.0 for a in m[-1]] for m in matrices])])
    if len({tuple(line[1:]) for line in untrained}) == 1:
        untrained = [[_UNTRAINED, *untrained[0][1:]]]
    return [head, *untrained, *lines] if head else []


def unseen_markdown(named: Iterable[tuple[str, Row]], escaped: bool = True) -> list[str]:
    """Return :func:`unseen_lines` as the lines of a Markdown table, with an explanation.

    Args:
        named: rows of one comparison, each with its name.
        escaped: False leaves names as they are, for a terminal.
    """
    lines = unseen_lines(named)
    if not lines:
        return []
    if escaped:
        lines = [[markdown_cell(cell) for cell in line] for line in lines]
    return [*markdown_table(lines), "", ABOUT]


def _means(values: Sequence[Sequence[float]]) -> list[str]:
    """Return the mean of each column in percent."""
    return [f"{100 * statistics.fmean(column):.1f}" for column in zip(*values, strict=True)]
