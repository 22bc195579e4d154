"""The page of all published tables, ``docs/published.md``."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.board.cells import markdown_cell, markdown_table
from benchmarks.board.reported_text import facts, figure_text, heading, metric_title
from benchmarks.results.published import PublishedTable
from benchmarks.results.published_parts import AnyMatch, MtilMatch, SequenceMatch

COMMAND = "python -m benchmarks published --out docs/published.md"
"""The command that writes the page."""
INTRODUCTION = (
    "This page lists figures that papers report for the methods and streams of this project. "
    "**This project ran none of them.**",
    "The board shows a table beside a comparison of the same stream and backbone, under the words "
    "“reported, not run here”. Published figures are not ranked, and are part of no mean, "
    "difference or drawing.",
    "“The paper does not state” lists what a paper leaves out. “Not recorded here” lists what a "
    "paper states, or may state, and this page does not have. A discrepancy is a printed figure "
    "that differs from the figure that follows from others in the paper. The tables have the "
    "printed figure.",
    f"`{COMMAND}` writes this page from the files in `benchmarks/published`.",
)


def published_page(tables: Sequence[PublishedTable]) -> str:
    """Return the page as Markdown; the same tables give the same text."""
    papers = dict.fromkeys(table.paper for table in tables)
    lines = ["# Published figures", ""]
    for paragraph in INTRODUCTION:
        lines += [paragraph, ""]
    lines += [
        f"- {paper.short}: {markdown_cell(paper.title)}, {paper.venue}, "
        f"[arXiv {paper.arxiv}]({paper.link})."
        for paper in papers
    ]
    for table in tables:
        lines += ["", *_section(table)]
    return "\n".join([*lines, ""])


def _section(table: PublishedTable) -> list[str]:
    pairs = [
        *facts(table, table.metrics, table.discrepancies),
        ("Methods", _methods(table)),
        ("Shown on the board", _shown(table)),
    ]
    return [
        f"## {markdown_cell(heading(table))}",
        "",
        markdown_cell(table.about),
        "",
        *markdown_table([[markdown_cell(cell) for cell in line] for line in _lines(table)]),
        "",
        *(f"- {markdown_cell(title)}: {markdown_cell(text)}." for title, text in pairs),
    ]


def _lines(table: PublishedTable) -> list[list[str]]:
    """Return a line for each row and metric, with a cell for each method."""
    streams = any(row.stream not in (None, row.name) for row in table.rows)
    lines = [[*(["stream"] if streams else []), "row", "figure", *table.methods]]
    rows = [(row.stream, row.name, row.figures) for row in table.rows]
    for stream, name, figures in (*rows, *((None, m.name, m.figures) for m in table.means)):
        for key, metric in table.metrics.items():
            found = {said: figures.get(said, {}).get(key) for said in table.methods}
            if any(found.values()):
                place = [*([stream or ""] if streams else []), name, metric_title(metric)]
                lines.append([*place, *(figure_text(f, metric) for f in found.values())])
    return lines


def _methods(table: PublishedTable) -> str:
    """Return the names of the methods here, and the rivals that are not run."""
    run = [f"{said} is {name} here" for said, name in table.methods.items() if name is not None]
    rivals = [said for said, name in table.methods.items() if name is None]
    parts = [", ".join(run), f"not run here: {', '.join(rivals)}" if rivals else ""]
    return "; ".join(filter(None, parts))


def _shown(table: PublishedTable) -> str:
    """Return the streams and backbones of :func:`benchmarks.board.reported.reported_beside`."""
    if table.match is None:
        return "no, since no stream of the benchmarks has this protocol"
    streams = "; ".join(map(_stream, table.match.streams.values()))
    return f"beside {streams}; on {' or '.join(table.match.backbones)}"


def _stream(pattern: AnyMatch) -> str:
    if isinstance(pattern, SequenceMatch):
        return f"sequence {', '.join(pattern.sets)}"
    if isinstance(pattern, MtilMatch):
        return f"{pattern.kind} in order {pattern.order}, splits {pattern.splits}, both towers"
    splits = " or ".join(pattern.splits)
    return (
        f"{pattern.kind} in {pattern.num_experiences} experiences, split {splits}, "
        f"{pattern.train} images to train and {pattern.test} to test"
    )
