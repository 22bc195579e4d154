"""Numbers and findings as text."""

from __future__ import annotations

from benchmarks.board.columns import COLUMNS, IN_FINDINGS, Column
from benchmarks.board.model import Comparison, Entry
from benchmarks.results.intervals import Interval

MINUS = "\N{MINUS SIGN}"


def number(value: float, unit: str, signed: bool = False) -> str:
    """Return ``value`` in its unit: shares as per cent, bytes as MiB or GiB."""
    if unit == "bytes":
        mib = value / 2**20
        return f"{mib / 1024:.1f} GiB" if mib >= 1024 else f"{mib:.0f} MiB"
    if unit == "times":
        return f"{value:.2f}×"
    text = f"{100 * value:{'+' if signed or unit == 'change' else ''}.1f}"
    return "0.0" if float(text) == 0 else text.replace("-", MINUS)


def spread(half: float | None, unit: str) -> str:
    """Return half of an interval's width as text; nothing without an interval."""
    if half is None:
        return ""
    if unit in ("bytes", "times"):
        return "± " + number(half, unit)
    return f"± {100 * half:.1f}"


def with_spread(value: Interval | None, unit: str, signed: bool = False) -> str:
    """Return text such as ``67.9 ± 0.4``; a dash for None."""
    if value is None:
        return "–"
    return f"{number(value.mean, unit, signed)} {spread(value.half, unit)}".strip()


def difference(value: Interval | None, unit: str) -> str:
    """Return a difference with its sign, like :func:`with_spread`.

    The text has two digits after the point if one digit would hide that 0 is outside.
    """
    if value is None or value.half is None:
        return with_spread(value, unit, signed=True)
    mean, half = 100 * value.mean, 100 * value.half
    close = value.excludes_zero and round(abs(mean), 1) <= round(half, 1)
    if not close:
        return with_spread(value, unit, signed=True)
    return f"{mean:+.2f} ± {half:.2f}".replace("-", MINUS)


def verdict(difference: Interval | None, column: Column) -> str:
    """Return ``better`` or ``worse``; nothing if the interval includes zero, or there is none."""
    if difference is None or not difference.excludes_zero:
        return ""
    return "better" if (difference.mean > 0) == (column.better == "more") else "worse"


def unit_name(unit: str) -> str:
    """Return the name of a unit for the head of a column."""
    return {
        "percent": "%",
        "points": "points",
        "change": "points",
        "times": "× plain",
        "bytes": "",
    }[unit]


def findings(comparison: Comparison, keys: tuple[str, ...] = IN_FINDINGS) -> list[tuple[str, str]]:
    """Compare chosen settings with plain fine-tuning by their intervals.

    Args:
        comparison: comparison with the settings.
        keys: keys of the columns to name.

    Returns:
        Pairs of method and sentence.
    """
    if comparison.baseline is None:
        return [("", "No run of plain fine-tuning is here, so nothing is compared with it.")]
    sentences = []
    for entry in comparison.entries:
        if not entry.headline or not any(entry.differences.values()):
            continue
        clear: dict[str, list[str]] = {
            "better": [],
            "worse": [],
            "": [],
            "equal": [],
            "single": [],
        }
        for column in (c for c in COLUMNS if c.key in keys):
            value = entry.differences[column.key]
            if value is not None:
                kind = verdict(value, column)
                if value.half is None:
                    kind = "single" if len(value.values) == 1 else "equal"
                clear[kind].append(f"{column.title} {difference(value, column.unit)}")
        parts = [
            f"{before}{', '.join(clear[kind])}"
            for kind, before in (
                ("better", "better: "),
                ("worse", "worse: "),
                ("", "no clear difference: "),
                ("equal", "equal in every seed, so without an interval: "),
                ("single", "from one seed, so perhaps by chance: "),
            )
            if clear[kind]
        ]
        sentences.append((entry.row.method, f"{entry_name(entry)}: {'; '.join(parts)}."))
    if not sentences:
        sentences = [
            ("", "No row but plain fine-tuning is ranked yet: nothing is compared with it.")
        ]
    return sentences


def data_sets(names: tuple[str, ...]) -> str:
    """Return names in order; of more than eight the first, the last and the number."""
    if len(names) > 8:
        return f"{names[0]} → … → {names[-1]} ({len(names)})"
    return " → ".join(names)


def entry_name(entry: Entry) -> str:
    """Return method, strength, and the keys that distinguish the row."""
    extra = ", ".join(f"{key}={value}" for key, value in entry.distinct.items())
    return f"{entry.row.label} ({extra})" if extra else entry.row.label
