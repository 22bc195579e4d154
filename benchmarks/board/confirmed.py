"""Seeds that several records confirm, as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.board.columns import COLUMN, LEARNING
from benchmarks.board.words import number
from benchmarks.results.record import Record
from benchmarks.results.scores import SCORES
from benchmarks.results.settings import hardware


def confirmed_seeds(confirmations: Mapping[int, Sequence[Record]]) -> str:
    """Return the seeds with several records, for a cell of a table; nothing without such seeds.

    Args:
        confirmations: by seed the records that agree, two or more.
    """
    parts = [f"seed {seed} by {len(records)} records" for seed, records in confirmations.items()]
    return f"confirmed: {', '.join(parts)}" if parts else ""


def confirmed_run(records: Sequence[Record]) -> str:
    """Return a sentence about the records of one run that agree.

    Args:
        records: two records or more; the first is the used one.
    """
    machines = {hardware(record): record.how.machine.processor for record in records}
    values = sorted(SCORES[LEARNING](record) or 0.0 for record in records)
    column = COLUMN[LEARNING]
    low, high = (number(value, column.unit) for value in (values[0], values[-1]))
    spread = low if low == high else f"{low} to {high}"
    names = ", ".join(sorted(set(machines.values())))
    count = f"{len(machines)} machine{'' if len(machines) == 1 else 's'}"
    return (
        f"{len(records)} records agree within the tolerance, of {count} ({names}): "
        f"{column.title} {spread}. The costs are those of the used record."
    )
