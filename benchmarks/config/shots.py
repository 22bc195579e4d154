"""The keys that choose few training images of each class."""

from __future__ import annotations

from typing import Annotated

from benchmarks.config.fields import key

Shots = Annotated[
    int | None,
    key("largest number of training images a class; null: all", since_records=False, ge=1),
]
ShotsSeed = Annotated[int, key("seed of the choice of these images", since_records=False, ge=0)]
ShotsList = Annotated[
    str | None,
    key("JSON file of the training images, by set and class", since_records=False),
]


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
