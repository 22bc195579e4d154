"""Runs as a Markdown table."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.path import PathPoint

Record = dict[str, Any]
_NOTES = {
    "accuracy": "mean over the stream's experiences after the last (%)",
    "last": "accuracy on all test images after the last experience (%)",
    "average": "mean of that over the experiences so far, after each (%)",
    "forgetting": "accuracy right after learning an experience minus accuracy at the end (points, "
    "Avalanche's)",
    "Δ_LP": "change of the linear-probe accuracy of data sets never tuned on (points; below 0 is "
    "concept forgetting), the mean and each",
    "s/step": "median, with as many runs at a time as --jobs says, so compare them within one "
    "table only",
}


def path_table(paths: dict[str, list[PathPoint]]) -> str:
    """Paths over strengths; bold is what validation data choose."""
    groups = [
        ([point.record], point.chosen and len(points) > 1)
        for points in paths.values()
        for point in points
    ]
    head = "Bold: chosen on validation data, by accuracy + Δ_LP there."
    return _table(groups, [head])


def run_table(records: Sequence[Record]) -> str:
    """Runs by method and strength, the mean over seeds."""
    groups: dict[tuple[str, float | None], list[Record]] = {}
    for record in records:
        config = record["config"]
        groups.setdefault((config["method"], config["strength"]), []).append(record)
    return _table([(found, False) for found in groups.values()], [])


def _table(groups: list[tuple[list[Record], bool]], notes: list[str]) -> str:
    first = groups[0][0][0]
    by_image = first["test"]["weighted_by"] == "image"
    panel = list(first["test"]["panel_before"])
    several = max(len(found) for found, _ in groups) > 1
    head = ["method", "strength", *(["seeds"] if several else []),
            *(["last", "average"] if by_image else ["accuracy"]), "forgetting"]  # fmt: skip
    head += ["Δ_LP panel", *panel] if panel else []
    head.append("s/step")
    lines = [head, ["---"] * len(head)]
    for found, bold in groups:
        cells = _cells(found, by_image, panel, several)
        lines.append([f"**{cell}**" if bold else cell for cell in cells])
    about = ["strength: λ; mu of DiGraP, alpha of WiSE-FT.", *notes]
    about += [
        f"{name}: {text}."
        for name, text in _NOTES.items()
        if name in head or (name == "Δ_LP" and panel)
    ]
    about.append("With a head of kind probe, heads start as linear probes: lp-ft is plain "
                 "fine-tuning from there.")  # fmt: skip
    return "\n".join(["", *("| " + " | ".join(line) + " |" for line in lines), "", *about])


def _cells(found: list[Record], by_image: bool, panel: list[str], several: bool) -> list[str]:
    tests = [record["test"] for record in found]
    config = found[0]["config"]

    def mean(values: Sequence[float], sign: str = "") -> str:
        return f"{100 * statistics.mean(values):{sign}.1f}"

    cells = [config["method"], "" if config["strength"] is None else f"{config['strength']:g}"]
    cells += [str(len(found))] if several else []
    cells.append(mean([t["stream_accuracy"] for t in tests]))
    cells += [mean([t["average_accuracy"] for t in tests])] if by_image else []
    cells.append(mean([t["forgetting_avalanche"] for t in tests]))
    if panel:
        cells.append(mean([t["delta_lp"] for t in tests], "+"))
        cells += [
            mean([t["panel_after"][n] - t["panel_before"][n] for t in tests], "+") for n in panel
        ]
    cells.append(f"{statistics.median(r['seconds_per_step'] for r in found):.3f}")
    return cells
