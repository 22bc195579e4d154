"""The outcomes as a table of Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from benchmarks.accept.check import Outcome

_MARKS = {"passed": "passed", "failed": "**failed**", "skipped": "not checked"}


def table(machine: Mapping[str, Any], outcomes: Iterable[Outcome]) -> str:
    """Return the machine's line and one row for each check."""
    memory = machine["memory_gib"]
    about = [machine["device"]] + ([] if memory is None else [f"{memory} GiB"])
    if machine["count"] > 1:
        about.append(f"{machine['count']} of them")
    lines = [
        f"{', '.join(about)}; torch {machine['torch']}, Python {machine['python']}, "
        f"code {machine['code']}{', quick' if machine['quick'] else ''}",
        "",
        "| check | outcome | measured | s |",
        "| --- | --- | --- | --- |",
    ]
    for each in outcomes:
        words = each.about.replace("|", "\\|").replace("\n", " ")
        lines.append(f"| {each.name} | {_MARKS[each.status]} | {words} | {each.seconds:.1f} |")
    return "\n".join(lines)


def line(outcomes: Iterable[Outcome]) -> str:
    """Return the counts and the duration in one line.

    Example:
        >>> line([Outcome("a: b", "passed", "", 1.5), Outcome("a: c", "skipped", "", 0.5)])
        '1 passed, 0 failed, 1 not checked, in 2 s'
    """
    listed = list(outcomes)
    counts = Counter(each.status for each in listed)
    seconds = sum(each.seconds for each in listed)
    return (
        f"{counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} not checked, "
        f"in {seconds:.0f} s"
    )
