"""The keys that choose few training images of each class."""

from __future__ import annotations


def check_shots(shots: int | None, seed: int, listed: str | None) -> None:
    """Refuse keys that contradict each other, or have no effect.

    Raises:
        ValueError: names the keys and the remedy.
    """
    if shots is not None and listed is not None:
        raise ValueError(
            f"shots={shots} and shots_list={listed!r} both choose the training images: leave one "
            "out"
        )
    if shots is None and seed:
        raise ValueError(f"shots_seed={seed} has no effect without shots: set it")
