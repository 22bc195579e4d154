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
    "val": "accuracy, and Δ_LP, on validation data: choose by these",
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
    validated = first["validation"]["stream_accuracy"] is not None
    head += ["val", *(["val Δ_LP"] if panel else [])] if validated else []
    head.append("s/step")
    lines = [head, ["---"] * len(head)]
    if first["config"]["head"]["kind"] == "zero-shot":
        lines.append(_untrained(first, head))
    for found, bold in groups:
        cells = _cells(found, by_image, panel, several, validated)
        lines.append([f"**{cell}**" if bold else cell for cell in cells])
    about = ["strength: λ; mu of DiGraP, alpha of WiSE-FT.", *notes]
    about += [
        f"{name}: {text}."
        for name, text in _NOTES.items()
        if name in head or (name == "Δ_LP" and panel)
    ]
    if by_image and first["config"]["head"]["kind"] == "zero-shot":
        about.append("A zero-shot head chooses among all classes from the start, a growing one "
                     "among those seen so far: compare their averages with care.")  # fmt: skip
    about.append("With a head of kind probe, heads start as linear probes: lp-ft is plain "
                 "fine-tuning from there.")  # fmt: skip
    return "\n".join(["", *("| " + " | ".join(line) + " |" for line in lines), "", *about])


def _untrained(record: Record, head: list[str]) -> list[str]:
    """The row of the zero-shot head before any training."""
    accuracies, counts = record["test"]["accuracy_matrix"][0], record["stream"]["test_counts"]
    by_image = record["test"]["weighted_by"] == "image"
    weights = counts if by_image else [1] * len(counts)
    value = sum(a * w for a, w in zip(accuracies, weights, strict=True)) / sum(weights)
    filled = {"method": "not tuned", "last" if by_image else "accuracy": f"{100 * value:.1f}"}
    return [filled.get(name, "") for name in head]


def _cells(
    found: list[Record], by_image: bool, panel: list[str], several: bool, validated: bool
) -> list[str]:
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
    if validated:
        held = [record["validation"] for record in found]
        cells.append(mean([v["stream_accuracy"] for v in held]))
        cells += [mean([v["delta_lp"] for v in held], "+")] if panel else []
    cells.append(f"{statistics.median(r['seconds_per_step'] for r in found):.3f}")
    return cells
