"""Published figures as text: beside a comparison in Markdown and on the page, and as CSV."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from benchmarks.board.cells import csv_text, markdown_cell, markdown_table
from benchmarks.board.model import Board
from benchmarks.board.reported import Reported
from benchmarks.board.words import MINUS
from benchmarks.results.published import PublishedTable
from benchmarks.results.published_parts import Discrepancy, Figure, Metric, PublishedRow

MARK = "reported, not run here"
"""The mark of every published figure."""


def figure_text(figure: Figure | None, metric: Metric) -> str:
    """Return a figure with the digits of the paper, and with its sign if it is a change."""
    if figure is None:
        return "–"
    sign = "" if metric.reference is None else "+"
    text = _number(figure.value, metric.digits, sign).replace("-", MINUS)
    return text if figure.spread is None else f"{text} ± {_number(figure.spread, metric.digits)}"


def _number(value: float, digits: int, sign: str = "") -> str:
    """Return a number with ``digits`` digits after the point, or with more that are not 0."""
    exact = -int(Decimal(repr(value)).normalize().as_tuple().exponent)
    return f"{value:{sign}.{max(digits, exact)}f}"


def metric_title(metric: Metric) -> str:
    """Return title and unit."""
    return f"{metric.title} ({metric.unit})" if metric.unit else metric.title


def heading(table: PublishedTable) -> str:
    """Return the mark, the paper and the place in the paper."""
    return f"{MARK.capitalize()}: {table.paper.short}, {table.table}"


def facts(
    table: PublishedTable, metrics: Iterable[str], discrepancies: Iterable[Discrepancy]
) -> list[tuple[str, str]]:
    """Return what a reader must know of a table, as pairs of title and text.

    Args:
        table: the table.
        metrics: keys of the metrics to define.
        discrepancies: discrepancies of the table to list.
    """
    protocol = table.protocol
    backbone = table.backbone or (
        "not stated" if "backbone" in table.not_stated else "not recorded"
    )
    pairs: list[tuple[str, str | None]] = [
        ("Backbone", backbone),
        ("Data", protocol.data),
        ("Epochs", protocol.epochs),
        ("Optimizer", protocol.optimizer),
        ("Heads", protocol.heads),
        ("Seeds", protocol.seeds),
    ]
    for key in metrics:
        metric = table.metrics[key]
        since = "" if metric.reference is None else f"; reference: {metric.reference}"
        pairs.append((metric.title, f"{metric.about}{since}"))
    pairs += [
        ("The paper does not state", "; ".join(table.not_stated)),
        ("Not recorded here", "; ".join(table.not_recorded)),
        ("Choice of the comparison", table.match and table.match.about),
    ]
    pairs += [("Discrepancy", _discrepancy(table, each)) for each in discrepancies]
    return [(title, text) for title, text in pairs if text]


def _discrepancy(table: PublishedTable, each: Discrepancy) -> str:
    metric = table.metrics[each.metric]
    printed, recomputed = (
        figure_text(Figure(value), metric) for value in (each.printed, each.recomputed)
    )
    place = ", ".join(filter(None, (each.stream, each.row, each.method, metric.title)))
    return f"{place}: printed {printed}, recomputed {recomputed}; {each.about}"


def reported_lines(reported: Reported) -> list[list[str]]:
    """Return a line for each method: its name in the paper and here, then its figures."""
    table, columns = reported.table, reported.columns
    head = [f"{row.name}: {metric_title(table.metrics[key])}" for row, key in columns]
    lines = [["method", "here", *head]]
    for said in reported.methods:
        cells = [
            figure_text(row.figures.get(said, {}).get(key), table.metrics[key])
            for row, key in columns
        ]
        lines.append([said, table.methods[said] or "–", *cells])
    return lines


def reported_facts(reported: Reported) -> list[tuple[str, str]]:
    """Return :func:`facts` with the metrics and the discrepancies of the shown figures."""
    shown = {key for _, key in reported.columns}
    metrics = [key for key in reported.table.metrics if key in shown]
    return facts(reported.table, metrics, reported.discrepancies)


def reported_markdown(reported: Reported) -> list[str]:
    """Return the Markdown lines of published figures beside a comparison."""
    table = reported.table
    lines = [[markdown_cell(cell) for cell in line] for line in reported_lines(reported)]
    return [
        f"### {markdown_cell(heading(table))}",
        "",
        f"From [arXiv {table.paper.arxiv}]({table.paper.link}). These figures are not ranked, and "
        "are part of no mean, difference or drawing.",
        "",
        *markdown_table(lines),
        "",
        *(
            f"- {markdown_cell(title)}: {markdown_cell(text)}."
            for title, text in reported_facts(reported)
        ),
    ]


def reported_csv(board: Board) -> str | None:
    """Return a line for each published figure beside a comparison; None if there is none."""
    head = [
        "status",
        "stream",
        "backbone",
        "paper",
        "arxiv",
        "table",
        "paper_backbone",
        "row",
        "method_in_paper",
        "method",
        "metric",
        "unit",
        "reference",
        "value",
        "spread",
    ]
    lines: list[list[object]] = []
    for comparison in board.comparisons:
        for reported in comparison.reported:
            where: list[object] = [MARK, comparison.stream, comparison.backbone]
            for row in reported.rows:
                lines += [[*where, *line] for line in _csv_lines(reported.table, row)]
    return csv_text([head, *lines]) if lines else None


def _csv_lines(table: PublishedTable, row: PublishedRow) -> Iterable[list[object]]:
    place = [table.paper.short, table.paper.arxiv, table.table, table.backbone, row.name]
    for said, by_metric in row.figures.items():
        for key, figure in by_metric.items():
            metric = table.metrics[key]
            kind = [metric.title, metric.unit, metric.reference]
            yield [*place, said, table.methods[said], *kind, figure.value, figure.spread]
