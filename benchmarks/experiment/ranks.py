"""The ranks of a run that torchrun started."""

from __future__ import annotations

import os


def launched() -> bool:
    """Return True if torchrun started this process."""
    return "LOCAL_RANK" in os.environ and "WORLD_SIZE" in os.environ


def refuse_ranks(command: str) -> None:
    """Refuse a command that is not written for several ranks.

    Raises:
        ValueError: if torchrun started this process.
    """
    if launched():
        raise ValueError(
            f"python -m benchmarks {command} cannot be started by torchrun: each rank would do all "
            "of it; only run can"
        )


def is_main() -> bool:
    """Return True if this process writes the records of a run."""
    return not launched() or os.environ["RANK"] == "0"


def rank_count() -> int:
    """Return the number of processes that share a run."""
    return int(os.environ["WORLD_SIZE"]) if launched() else 1
