"""A check that a place holds a whole batch."""

from __future__ import annotations


def check_rows(rows: int, batch: int, name: str) -> None:
    """Raise ValueError unless a place gave one row for each sample."""
    if rows != batch:
        raise ValueError(
            f"{name!r} gave {rows} rows for a batch of {batch}: it does not see "
            "the batch as a whole (a multi-task model that splits it by task, for example); "
            "name a module before that"
        )
