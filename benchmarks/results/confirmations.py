"""Several records of one run: one of them is used, and the others confirm it, or all conflict."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from benchmarks.results.agreement import agree, differences
from benchmarks.results.record import Record, Selection
from benchmarks.results.settings import hardware


def preference(
    records: Iterable[Record], seal_of: Callable[[Record], str]
) -> Callable[[Record], Any]:
    """Return a key that is lowest for the record to use; it depends on contents alone.

    A newer version of the method or of its companions comes first. Then comes the machine that
    made most runs, so that the costs of a board stay comparable. The record with
    the most settings in its selection is the latest of several copies. The seal decides among
    the others.

    Args:
        records: all finished records; a run counts once for each machine.
        seal_of: SHA-256 of a record.
    """
    made = Counter(machine for _, machine in {(r.run_id, hardware(r)) for r in records})

    def key(record: Record) -> tuple[Any, ...]:
        machine = hardware(record)
        newest_first = tuple(-version for version in _versions(record))
        tried = -record.selection.settings
        return newest_first, -made[machine], repr(machine), tried, seal_of(record)

    return key


def newest(records: Mapping[str, Record]) -> dict[str, Record]:
    """Return the records of the newest version of their method, and of its companions.

    A version is raised when the numbers of a method change, so records of two versions neither
    confirm nor contradict each other.

    Args:
        records: finished records of one run by name of the file.
    """
    last = max(map(_versions, records.values()), default=())
    return {name: record for name, record in records.items() if _versions(record) == last}


def _versions(record: Record) -> tuple[int, ...]:
    """Return the version of the method, then those of its companions by name."""
    code = record.how.code
    return code.version, *(
        code.companion_versions[name] for name in sorted(code.companion_versions)
    )


def conflict(records: Mapping[str, Record]) -> str:
    """Return the largest difference beyond the tolerance among records of one run; else nothing.

    Args:
        records: finished records by name of the file.
    """
    for one, two in itertools.combinations(records.values(), 2):
        if not agree(one, two):
            worst = differences(one, two)[0]
            return f"{worst.path} is {_short(worst.first)} and {_short(worst.second)}"
    return ""


def distinct(records: Sequence[Record], seal_of: Callable[[Record], str]) -> tuple[Record, ...]:
    """Return ``records`` without copies of the same file; the first of several copies stays.

    Copies may differ in the selection, which a later command with more settings writes anew.
    """
    by_seal: dict[str, Record] = {}
    for record in records:
        by_seal.setdefault(seal_of(replace(record, selection=Selection())), record)
    return tuple(by_seal.values())


def _short(value: object) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
