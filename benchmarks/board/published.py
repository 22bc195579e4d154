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
    f"`{COMMAND}` writes this page from the files in `benchmarks/published`.",
    "Papers report the figures on this page. **This project ran none of them.** The board shows "
    "a table beside a comparison of the same stream and backbone, under the words “reported, not "
    "run here”. A published figure has no rank, and is part of no mean, difference or drawing.",
    "“The paper does not state” lists what a paper leaves out. “Not recorded here” lists what a "
    "paper has or may have, and these data have not. A discrepancy is a printed figure that "
    "other printed figures do not give: the data keep the printed figure.",
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
        ("Beside comparisons of the board", _shown(table)),
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
        return "no stream of the benchmarks has this protocol"
    streams = "; ".join(map(_stream, table.match.streams.values()))
    return f"{streams}; on {' or '.join(table.match.backbones)}"


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
