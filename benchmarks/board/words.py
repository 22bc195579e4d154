"""Numbers and findings as a reader sees them."""

from __future__ import annotations

from benchmarks.board.model import Column, Comparison, Entry
from benchmarks.board.stats import Interval

MINUS = "\N{MINUS SIGN}"


def number(value: float, unit: str, signed: bool = False) -> str:
    """``value`` in the unit of its column: shares as per cent, bytes as MiB or GiB."""
    if unit == "bytes":
        mib = value / 2**20
        return f"{mib / 1024:.1f} GiB" if mib >= 1024 else f"{mib:.0f} MiB"
    if unit == "times":
        return f"{value:.2f}×"
    text = f"{100 * value:{'+' if signed or unit == 'change' else ''}.1f}"
    return "0.0" if float(text) == 0 else text.replace("-", MINUS)


def spread(half: float | None, unit: str) -> str:
    """Half of an interval's width; nothing for a single value."""
    if half is None:
        return ""
    if unit in ("bytes", "times"):
        return "± " + number(half, unit)
    return f"± {100 * half:.1f}"


def with_spread(found: Interval | None, unit: str, signed: bool = False) -> str:
    """``67.9 ± 0.4``; a dash where nothing is known."""
    if found is None:
        return "–"
    return f"{number(found.mean, unit, signed)} {spread(found.half, unit)}".strip()


def verdict(difference: Interval | None, column: Column) -> str:
    """``better``, ``worse``, or nothing where the interval includes zero."""
    if difference is None or not difference.excludes_zero:
        return ""
    return "better" if (difference.mean > 0) == (column.better == "more") else "worse"


def unit_name(unit: str) -> str:
    """For the head of a column."""
    return {
        "percent": "%",
        "points": "points",
        "change": "points",
        "times": "× plain",
        "bytes": "",
    }[unit]


def findings(comparison: Comparison, columns: tuple[Column, ...]) -> list[str]:
    """What the intervals allow to say of the chosen settings, in sentences."""
    if comparison.baseline is None:
        return ["No run of plain fine-tuning is here, so nothing is compared with it."]
    shown = [e for e in comparison.entries if e.headline and any(e.differences.values())]
    told = []
    for column in columns:
        compared = [e for e in shown if e.differences.get(column.key) is not None]
        if not compared:
            continue
        clear: dict[str, list[str]] = {"better": [], "worse": [], "": [], "single": []}
        for entry in compared:
            found = entry.differences[column.key]
            text = f"{entry_name(entry)} ({with_spread(found, column.unit, signed=True)})"
            single = found is None or found.half is None
            clear["single" if single else verdict(found, column)].append(text)
        parts = [
            f"{word} than plain fine-tuning: {', '.join(clear[word])}"
            for word in ("better", "worse") if clear[word]
        ]  # fmt: skip
        if clear[""]:
            no_other = "no clear difference" if parts else "no clear difference from it"
            parts.append(f"{no_other}: {', '.join(clear[''])}")
        if clear["single"]:
            parts.append(f"one seed, which shows no chance: {', '.join(clear['single'])}")
        told.append(f"{column.title}: {'; '.join(parts)}.")
    if not told:
        told = ["No row but plain fine-tuning is ranked yet, so nothing is compared with it."]
    return told


def data_sets(names: tuple[str, ...]) -> str:
    """Names in a row; many are counted."""
    if len(names) > 8:
        return f"{names[0]} → … → {names[-1]} ({len(names)})"
    return " → ".join(names)


def entry_name(entry: Entry) -> str:
    """Method, strength, and what else tells the row apart."""
    extra = ", ".join(f"{key}={value}" for key, value in entry.distinct.items())
    return f"{entry.row.label} ({extra})" if extra else entry.row.label
