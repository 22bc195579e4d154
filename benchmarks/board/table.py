"""Rows as a Markdown table for the terminal."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from benchmarks.board.advice import validation_image
from benchmarks.methods.combined import parts_of
from benchmarks.methods.registry import METHODS
from benchmarks.results.matrix import weighted_mean
from benchmarks.results.places import panel_word
from benchmarks.results.record import Record
from benchmarks.results.scores import learnt, outcome_of
from benchmarks.results.settings import Row
from benchmarks.results.transfer import untrained_transfer

_NOTES = {
    "accuracy": "mean over the stream's experiences after the last (%)",
    "learnt": "accuracy on each experience right after learning it, the mean (%)",
    "last": "accuracy on all test images after the last experience (%)",
    "average": "mean of that over the experiences so far, after each (%)",
    "forgetting": "accuracy right after learning an experience minus accuracy at the end, the mean "
    "over all experiences except the last (points, Avalanche's)",
    "Transfer": "accuracy on experiences still to come, after at least one other (%); of the model "
    "that is not tuned, before training",
    "ΔTransfer": "Transfer minus that of the model that is not tuned (points)",
    "MTIL Avg": "mean of the whole matrix, experiences still to come too (%)",
    "Δ_LP": "change of the linear-probe accuracy of data sets never tuned on (points; below 0 is "
    "concept forgetting), the mean and each",
    "Δ_ZS": "the same of their zero-shot accuracy, the mean",
    "s/step": "median, with as many runs at a time as --jobs says, so compare them within one "
    "table only",
}
_ZERO_SHOT = (
    "A zero-shot head chooses among all classes from the start, a growing one among those seen so "
    "far: compare their averages with care."
)
_PROBE = (
    "With a head of kind probe, heads start as linear probes: lp-ft is plain fine-tuning from "
    "there, and frozen trains the heads alone."
)

_MACHINES = "The runs were made on several machines: do not compare s/step between rows."


def table(rows: Sequence[Row]) -> str:
    """Return the means over seeds, one line a setting.

    Validation data choose among several settings of a method; the chosen setting is bold.

    Args:
        rows: rows of one comparison, at least one of them with a finished run; rows without a
            finished run are not shown.
    """
    whole = [row for row in rows if row.finished]
    first = whole[0].finished[0]
    assert first.stream is not None
    by_image = first.stream.weighted_by == "image"
    panel = _panel_sets(first)
    several = max(len(row.finished) for row in whole) > 1
    worded = any(row.scores("delta_zs") for row in whole)
    validated = any(row.scores("score") for row in whole)
    head = ["method", "strength", *(["seeds"] if several else [])]
    head += ["learnt", *(["last", "average"] if by_image else ["accuracy"]), "forgetting"]
    if any(row.scores("transfer") for row in whole):
        head += ["Transfer", "ΔTransfer", "MTIL Avg"]
    head += ["Δ_LP panel", *panel, *(["Δ_ZS"] if worded else [])] if panel else []
    head += ["val", *(["val Δ_LP"] if panel else [])] if validated else []
    head.append("s/step")
    lines = [head, ["---"] * len(head)]
    if first.config["head"]["kind"] == "zero-shot":
        lines.append(_untrained(first, head))
    paths = [row.method for row in whole]
    for row in whole:
        bold = row.chosen and paths.count(row.method) > 1
        cells = _cells(row, head, panel)
        lines.append([f"**{cell}**" if bold else cell for cell in cells])
    about = [_strengths(whole)]
    if len(set(paths)) < len(paths) and validated:
        about.append(f"Bold: chosen on validation data, by {_score_words(bool(panel))} there.")
    about += [
        f"{name}: {text}."
        for name, text in _NOTES.items()
        if name in head or (name == "Δ_LP" and panel)
    ]
    if validated:
        image = 100 * (validation_image(first) or 0.0)
        columns = "val, val Δ_LP: accuracy and Δ_LP" if panel else "val: accuracy"
        about.append(
            f"{columns} on validation data; choose by {'their sum' if panel else 'it'}, and never "
            f"by test figures. One validation image is up to {image:.1f} points."
        )
    if by_image and first.config["head"]["kind"] == "zero-shot":
        about.append(_ZERO_SHOT)
    if len(set.union(*(row.machines for row in whole))) > 1:
        about.append(_MACHINES)
    about.append(_PROBE)
    return "\n".join(["", *("| " + " | ".join(line) + " |" for line in lines), "", *about])


def _strengths(rows: Sequence[Row]) -> str:
    """Return the line on the column of strengths; it names the methods whose strength is no λ."""
    shown = dict.fromkeys(part for row in rows for part in parts_of(row.method))
    knobs = {name: METHODS[name].knob for name in shown if name in METHODS}
    named = [f"{knob} of {name}" for name, knob in knobs.items() if knob not in (None, "weight")]
    return "; ".join(["strength: λ", *([", ".join(named)] if named else [])]) + "."


def _score_words(panel: bool) -> str:
    return "accuracy + Δ_LP" if panel else "accuracy"


def _panel_sets(record: Record) -> list[str]:
    """Data sets of the panel in the order of the configuration; a record's file sorts them."""
    names = record.config["panel"]["sets"]
    asked = [panel_word(name) for name in names]
    return sorted(record.panel or {}, key=lambda name: [*asked, name].index(name))


def _untrained(record: Record, head: list[str]) -> list[str]:
    """Return the cells of the zero-shot head before training."""
    assert record.stream is not None
    values = [float(a or 0) for a in outcome_of(record).accuracy[0]]
    by_image = record.stream.weighted_by == "image"
    weights = record.stream.test if by_image else (1,) * len(values)
    value = weighted_mean(values, weights)
    filled = {"method": "not tuned", "last" if by_image else "accuracy": f"{100 * value:.1f}"}
    unseen = untrained_transfer(outcome_of(record).accuracy)
    if unseen is not None:
        filled["Transfer"] = f"{100 * unseen:.1f}"
    return [filled.get(name, "") for name in head]


def _step(row: Row) -> str:
    """Return the median seconds of a step; nothing if the runs were made on several machines."""
    if len(row.machines) > 1:
        return ""
    return f"{statistics.median(row.scores('seconds_per_step').values()):.3f}"


def _cells(row: Row, head: list[str], panel: list[str]) -> list[str]:
    def points(value: float | None, sign: str = "") -> str:
        return "" if value is None else f"{100 * value:{sign}.1f}"

    cells = {
        "method": row.method,
        "strength": row.strength_text,
        "seeds": str(len(row.finished)),
        "learnt": points(statistics.fmean(map(learnt, row.finished))),
        "last": points(row.mean("last")),
        "accuracy": points(row.mean("last")),
        "average": points(row.mean("avg")),
        "forgetting": points(row.mean("forgetting_first")),
        "Transfer": points(row.mean("transfer")),
        "ΔTransfer": points(row.mean("delta_transfer"), "+"),
        "MTIL Avg": points(row.mean("mtil_avg")),
        "Δ_LP panel": points(row.mean("delta_lp"), "+"),
        "Δ_ZS": points(row.mean("delta_zs"), "+"),
        "val": points(row.mean("validation_accuracy")),
        "val Δ_LP": points(row.mean("validation_delta_lp"), "+"),
        "s/step": _step(row),
    }
    for name in panel:
        changes = []
        for record in row.finished:
            moments = outcome_of(record).panel
            first, end = (moments[k].linear_probe["test"][name] for k in (0, -1))
            changes.append(end - first)
        cells[name] = points(statistics.fmean(changes), "+")
    return [cells[name] for name in head]
