"""The board as one self-contained HTML file."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any, get_args

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from benchmarks.board.columns import COLUMNS, Column, Unit
from benchmarks.board.confirmed import confirmed_run, confirmed_seeds
from benchmarks.board.counts import image_counts
from benchmarks.board.draw import scatter, strips
from benchmarks.board.legend import compared_with
from benchmarks.board.looks import class_of, style
from benchmarks.board.measures import measure_texts
from benchmarks.board.model import Board, Comparison, Entry
from benchmarks.board.reported import Reported
from benchmarks.board.reported_text import heading, reported_facts, reported_lines
from benchmarks.board.unseen import ABOUT, TITLE, unseen_lines
from benchmarks.board.words import (
    data_sets,
    difference,
    entry_name,
    findings,
    number,
    spread,
    unit_name,
    verdict,
)
from benchmarks.methods import registry
from benchmarks.methods.combined import about_of, parts_of
from benchmarks.results.files import sealed
from benchmarks.results.identity import canonical
from benchmarks.results.record import Record

_ASSETS = Path(__file__).with_name("assets")


def page(board: Board) -> str:
    """Return the page; the same board gives the same text."""
    environment = Environment(
        loader=FileSystemLoader(_ASSETS),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    script = (_ASSETS / "page.js").read_text(encoding="utf-8")
    rows = [entry.row for c in board.comparisons for entry in c.entries]
    known = [method for method in registry.METHODS if any(row.method == method for row in rows)]
    others = sorted({row.method for row in rows} - set(known))
    used = dict.fromkeys(parts_of(method)[0] for method in known + others)
    shown = [c for c in COLUMNS if any(_any(c, part) for part in board.comparisons)]
    return environment.get_template("page.html").render(
        board=board,
        views=[_comparison(c) for c in board.comparisons],
        compared_with=compared_with(board),
        equal=any(map(_has_equal_differences, board.comparisons)),
        columns=shown,
        streams=sorted({c.stream for c in board.comparisons}),
        backbones=sorted({c.backbone for c in board.comparisons}),
        methods=known + others,
        abouts={method: about_of(method) for method in known + others if about_of(method)},
        units={unit: unit_name(unit) for unit in get_args(Unit)},
        class_of=class_of,
        css=Markup((_ASSETS / "page.css").read_text(encoding="utf-8")),
        looks=style(used),
        script=Markup(script),
        script_hash=Markup("'sha256-{}'").format(
            base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        ),
        # as text: JavaScript would write 1.0 as 1, which is not what the record's hash is of
        measures=json.dumps(measure_texts()),
        data=_embedded({r.run_id: canonical(sealed(r)).decode() for r in board.records}),
    )


def _embedded(content: Any) -> Markup:
    """Return JSON that cannot end its script element."""
    text = json.dumps(content, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(text)


def _any(column: Column, comparison: Comparison) -> bool:
    return any(entry.cells[column.key] is not None for entry in comparison.entries)


def _has_equal_differences(comparison: Comparison) -> bool:
    """Return True if differences of several seeds allow no interval."""
    differences = (d for entry in comparison.entries for d in entry.differences.values())
    return any(d is not None and d.half is None and len(d.values) > 1 for d in differences)


def _comparison(comparison: Comparison) -> dict[str, Any]:
    columns = [c for c in COLUMNS if _any(c, comparison)]
    methods = [entry.row.method for entry in comparison.entries]
    dots = strips(comparison)
    return {
        "about": comparison,
        "more": comparison.title.removeprefix(f"{comparison.stream} on {comparison.backbone}"),
        "columns": columns,
        "several": {method: methods.count(method) > 1 for method in methods},
        "scale": _scale(comparison),
        "apart": ", ".join(f"{key}={value}" for key, value in comparison.apart.items()),
        "learnt": data_sets(comparison.experiences),
        "plot": scatter(comparison),
        "front": sum(entry.front for entry in comparison.entries) > 1,
        "findings": findings(comparison),
        "rows": [_row(entry, columns, dots) for entry in comparison.entries],
        "unseen": _unseen(comparison),
        "reported": [_reported(part) for part in comparison.reported],
    }


def _unseen(comparison: Comparison) -> dict[str, Any] | None:
    lines = unseen_lines((entry_name(e), e.row) for e in comparison.entries if e.headline)
    return {"title": TITLE, "head": lines[0], "lines": lines[1:], "about": ABOUT} if lines else None


def _reported(reported: Reported) -> dict[str, Any]:
    head, *lines = reported_lines(reported)
    return {
        "heading": heading(reported.table),
        "paper": reported.table.paper,
        "head": head,
        "lines": lines,
        "facts": reported_facts(reported),
    }


def _scale(comparison: Comparison) -> dict[str, str]:
    """Return the size of the first finished run, by title."""
    first = next((r for e in comparison.entries for r in e.row.finished), None)
    if first is None or first.stream is None or first.cost is None:
        return {}
    counts, machine = sorted(set(first.stream.train)), first.how.machine
    images = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    size = first.cost.parameters_stored / 1e6
    return {
        "Model": f"{comparison.backbone}, {size:.1f} M parameters",
        "Images a data set": f"{images} to learn from",
        "Test images": image_counts(comparison),
        "A run": f"{first.cost.steps} steps on {machine.device}, {machine.jobs} at a time",
    }


def _row(
    entry: Entry, columns: list[Column], dots: dict[tuple[str, str], Markup]
) -> dict[str, Any]:
    row = entry.row
    order: dict[str, Any] = {"method": row.label, "seeds": len(row.finished)}
    cells = []
    for column in columns:
        cell, apart = entry.cells[column.key], entry.differences.get(column.key)
        order[column.key] = None if cell is None else cell.mean
        cells.append(
            {
                "title": column.title,
                "key": column.key,
                "kinds": _kinds(verdict(apart, column), column),
                "value": "–" if cell is None else number(cell.mean, column.unit),
                "spread": "" if cell is None else spread(cell.half, column.unit),
                "strip": dots.get((row.setting, column.key)),
                "difference": "" if apart is None else difference(apart, column.unit),
                "verdict": verdict(apart, column),
                "bare": apart is not None and apart.half is None,
            }
        )
    return {
        "id": row.setting[:12],
        "entry": entry,
        "cells": cells,
        "sort": json.dumps(order, sort_keys=True),
        "about": _about(row.method),
        "score": "" if row.mean("score") is None else number(row.mean("score") or 0.0, "percent"),
        "confirmed": confirmed_seeds(entry.confirmations),
        "runs": [_run(entry, record) for record in (*row.finished, *row.failed)],
    }


def _kinds(verdict: str, column: Column) -> str:
    """Return the CSS classes of a cell."""
    return " ".join(filter(None, (verdict, "" if column.phone else "roomy")))


def _about(method: str) -> str:
    return about_of(method)


def _run(entry: Entry, record: Record) -> dict[str, Any]:
    row, seed = entry.row, record.config["seed"]
    agreeing = entry.confirmations.get(seed, ()) if record.status == "finished" else ()
    if record.status == "failed":
        about = f"failed: {record.reason}"
    else:
        scores = row.by_run[record.run_id]
        brief = [(c, scores[c.key]) for c in COLUMNS if c.brief]
        parts = [f"{c.title} {number(v, c.unit)}" for c, v in brief if v is not None]
        about = ", ".join([*parts, f"{1000 * (scores['seconds_per_step'] or 0.0):.0f} ms a step"])
    return {
        "id": record.run_id,
        "seed": seed,
        "confirmed": confirmed_run(agreeing) if agreeing else "",
        "failed": record.status == "failed",
        "about": about,
    }
