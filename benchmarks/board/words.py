"""Numbers and findings as a reader sees them."""

from __future__ import annotations

from benchmarks.board.columns import COLUMNS, TOLD, Column
from benchmarks.board.model import Comparison, Entry
from benchmarks.results.intervals import Interval

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


def difference(found: Interval | None, unit: str) -> str:
    """As :func:`with_spread`, signed; two digits where one would hide which side of 0 it is on."""
    if found is None or found.half is None:
        return with_spread(found, unit, signed=True)
    mean, half = 100 * found.mean, 100 * found.half
    close = found.excludes_zero and round(abs(mean), 1) <= round(half, 1)
    if not close:
        return with_spread(found, unit, signed=True)
    return f"{mean:+.2f} ± {half:.2f}".replace("-", MINUS)


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


def findings(comparison: Comparison, keys: tuple[str, ...] = TOLD) -> list[tuple[str, str]]:
    """What the intervals allow to say of the chosen settings: method and sentence.

    Args:
        comparison: whose rows.
        keys: of columns.
    """
    if comparison.baseline is None:
        return [("", "No run of plain fine-tuning is here, so nothing is compared with it.")]
    told = []
    for entry in comparison.entries:
        if not entry.headline or not any(entry.differences.values()):
            continue
        clear: dict[str, list[str]] = {"better": [], "worse": [], "": [], "single": []}
        for column in (c for c in COLUMNS if c.key in keys):
            found = entry.differences[column.key]
            if found is not None:
                kind = "single" if found.half is None else verdict(found, column)
                clear[kind].append(f"{column.title} {difference(found, column.unit)}")
        parts = [
            f"{before}{', '.join(clear[kind])}"
            for kind, before in (
                ("better", "better: "),
                ("worse", "worse: "),
                ("", "no clear difference: "),
                ("single", "from one seed, so perhaps by chance: "),
            )
            if clear[kind]
        ]
        told.append((entry.row.method, f"{entry_name(entry)}: {'; '.join(parts)}."))
    if not told:
        told = [("", "No row but plain fine-tuning is ranked yet: nothing is compared with it.")]
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
