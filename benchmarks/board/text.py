"""The board as Markdown for READMEs and CSV for papers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from benchmarks.board.cells import csv_text, markdown_cell, markdown_table
from benchmarks.board.columns import COLUMNS
from benchmarks.board.confirmed import confirmed_seeds
from benchmarks.board.counts import image_counts
from benchmarks.board.legend import legend
from benchmarks.board.model import Board, Comparison, Entry
from benchmarks.board.reported_text import reported_markdown
from benchmarks.board.unseen import TITLE, unseen_markdown
from benchmarks.board.words import (
    data_sets,
    entry_name,
    findings,
    unit_name,
    verdict,
    with_spread,
)
from benchmarks.methods.combined import combined_name, combined_strength
from benchmarks.results.record import Record
from benchmarks.results.scores import OPTIONAL, SCORES

_ARROW = {"better": " ▲", "worse": " ▼", "": ""}


def markdown(board: Board) -> str:
    """Return tables, a legend, and lists of failed runs and of files that are not used."""
    parts = ["# Learning and keeping", ""]
    if not board.comparisons:
        parts += ["No run is finished.", ""]
    for comparison in board.comparisons:
        parts += [*_comparison(comparison), ""]
    parts += legend(board)
    if board.failed:
        parts += ["## Failed runs", ""]
        parts += [
            f"- {markdown_cell(r.label)}: {markdown_cell(r.reason or '')}" for r in board.failed
        ] + [""]
    if board.refused:
        parts += ["## Files that are not used", ""]
        parts += [
            f"- {markdown_cell(n)}: {markdown_cell(reason)}" for n, reason in board.refused.items()
        ] + [""]
    return "\n".join(parts)


def _comparison(comparison: Comparison) -> list[str]:
    columns = [c for c in COLUMNS if any(e.cells[c.key] for e in comparison.entries)]
    head = ["method"]
    for column in columns:
        unit = unit_name(column.unit)
        head.append(
            f"{markdown_cell(column.title)} ({unit})" if unit else markdown_cell(column.title)
        )
    lines = [[*head, "seeds", "notes"]]
    for entry in comparison.entries:
        cells = []
        for column in columns:
            arrow = _ARROW[verdict(entry.differences.get(column.key), column)]
            cells.append(with_spread(entry.cells[column.key], column.unit) + arrow)
        name = markdown_cell(entry_name(entry))
        lines.append(
            [
                f"**{name}**" if entry.row.chosen else name,
                *cells,
                str(len(entry.row.finished)),
                markdown_cell(_notes(entry)),
            ]
        )
    base = comparison.baseline
    keys = ", ".join(f"{key}={value}" for key, value in comparison.apart.items())
    apart = [f"Apart from the others by {markdown_cell(keys)}.", ""] if keys else []
    about = [
        f"Learnt in order: {markdown_cell(data_sets(comparison.experiences))}. "
        + (
            f"Panel, never tuned on: {markdown_cell(', '.join(comparison.panel))}. "
            if comparison.panel
            else ""
        )
        + (f"Split: `{comparison.split[:16]}`." if comparison.split else ""),
        "",
        f"Test images: {image_counts(comparison)}.",
        "",
        "Mean ± half of the 95 % interval over seeds (Student's t). Bold: chosen on validation "
        "data. "
        + (
            f"▲ ▼: better or worse than {markdown_cell(base.label)}, plain fine-tuning, by an "
            "interval of paired differences without 0."
            if base
            else "No plain fine-tuning to compare with."
        ),
    ]
    lead = (
        f"Compared with {markdown_cell(base.label)}, on the seeds that both have:" if base else ""
    )
    return [
        f"## {markdown_cell(comparison.title)}",
        "",
        *apart,
        *about,
        "",
        *markdown_table(lines),
        "",
        lead,
        "",
        *(f"- {markdown_cell(text)}" for _, text in findings(comparison)),
        *_unseen(comparison),
        *(line for part in comparison.reported for line in ("", *reported_markdown(part))),
    ]


def _unseen(comparison: Comparison) -> list[str]:
    lines = unseen_markdown((entry_name(e), e.row) for e in comparison.entries if e.headline)
    return ["", f"### {TITLE}", "", *lines] if lines else []


def _notes(entry: Entry) -> str:
    words = ["front"] if entry.front else []
    confirmed = confirmed_seeds(entry.confirmations)
    words += [mark.word for mark in entry.marks]
    return ", ".join(words + ([confirmed] if confirmed else []))


def rows_csv(board: Board) -> str:
    """Return a line for each setting: means, half intervals and differences.

    Accuracies are shares of 1, memory is in bytes, costs are ratios; ``confirmed`` counts the
    seeds that several records confirm, ``test_images`` those of the stream, and
    ``smallest_test_set`` those of the smallest data set of stream and panel.
    """
    head: list[object] = [
        "stream",
        "backbone",
        "split",
        "test_images",
        "smallest_test_set",
        "method",
        "strength",
        "distinct",
        "setting",
        "chosen",
        "ranked",
        "front",
        "seeds",
        "failed",
        "confirmed",
        "notes",
    ]
    written = _written(board, (column.key for column in COLUMNS))
    columns = [column for column in COLUMNS if column.key in written]
    for column in columns:
        head += [column.key, f"{column.key}_half"]
        head += [] if column.cost else [f"{column.key}_vs_plain", f"{column.key}_vs_plain_half"]
    lines = [head]
    for c in board.comparisons:
        for e in c.entries:
            line: list[object] = [
                c.stream,
                c.backbone,
                c.split,
                sum(c.test),
                min((*c.test, *c.panel_test), default=None),
                e.row.method,
                e.row.strength_text if e.row.companions else e.row.strength,
                ", ".join(f"{k}={v}" for k, v in e.distinct.items()),
                e.row.setting,
                e.row.chosen,
                e.ranked,
                e.front,
                len(e.row.finished),
                len(e.row.failed),
                len(e.confirmations),
                _notes(e),
            ]
            for column in columns:
                intervals = [e.cells[column.key]]
                intervals += [] if column.cost else [e.differences[column.key]]
                for value in intervals:
                    line += [value and value.mean, value and value.half]
            lines.append(line)
    return csv_text(lines)


def runs_csv(board: Board) -> str:
    """Return a line for each run, with every score by its name.

    ``confirmations`` counts the records of the run that agree; 0 for a failed run.
    """
    names = _written(board, SCORES)
    head: list[object] = [
        "run_id",
        "status",
        "stream",
        "backbone",
        "method",
        "strength",
        "seed",
        "confirmations",
        "split_sha256",
        "test_images",
        "commit",
        *names,
    ]
    lines = [head]
    for c in board.comparisons:
        for e in c.entries:
            for r in (*e.row.finished, *e.row.failed):
                agreeing = e.confirmations.get(r.config["seed"], (r,))
                scores = e.row.by_run.get(r.run_id, {})
                values = [scores.get(name) for name in names]
                lines.append(_run_line(r, c.stream, len(agreeing), values))
    listed = {line[0] for line in lines}
    lines += [
        _run_line(r, r.config["stream"]["kind"], 0, [None] * len(names))
        for r in board.failed
        if r.run_id not in listed
    ]
    return csv_text(lines)


def _run_line(
    record: Record, stream: str, agreeing: int, values: Sequence[float | None]
) -> list[object]:
    strength, companions = record.config["strength"], record.config.get("companions", {})
    return [
        record.run_id,
        record.status,
        stream,
        record.config["backbone"]["name"],
        combined_name(record.config["method"], companions),
        combined_strength(strength, companions) if companions else strength,
        record.config["seed"],
        agreeing if record.status == "finished" else 0,
        record.stream.split_sha256 if record.stream else None,
        sum(record.stream.test) if record.stream else None,
        record.how.code.commit,
        *values,
    ]


def _written(board: Board, names: Iterable[str]) -> list[str]:
    """Return the names without those of :data:`OPTIONAL` scores that no run of the board has."""
    rows = [entry.row for c in board.comparisons for entry in c.entries]
    return [n for n in names if n not in OPTIONAL or any(row.scores(n) for row in rows)]
