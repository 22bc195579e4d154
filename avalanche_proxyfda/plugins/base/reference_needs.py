"""The reference data and texts that a method needs."""

from __future__ import annotations

from typing import Protocol

from avalanche_proxyfda.data.reference import ReferenceData
from avalanche_proxyfda.plugins.base.auto_weight import Weight


class Needs(Protocol):
    """The attributes of a method that say what it compares."""

    @property
    def reads_training_batch(self) -> bool:
        """True if the method compares the training batch."""

    @property
    def reads_texts(self) -> bool:
        """True if the method compares with texts."""

    @property
    def least_samples(self) -> int:
        """Number of images that a comparison needs."""


def check_needs(method: Needs, data: ReferenceData | None, weight: Weight | None) -> None:
    """Raise ValueError if ``method`` lacks the reference data or the texts that it needs.

    Args:
        method: a plugin.
        data: reference data of the plugin; None without any.
        weight: coefficient of the terms on the reference data; None takes the plugin's.
    """
    name = type(method).__name__
    if data is None:
        if not method.reads_training_batch:
            raise ValueError(f"{name} compares on reference data alone: pass reference_data")
        if weight is not None:
            raise ValueError(
                f"reference_weight={weight} has no effect without reference_data: pass both, or "
                "neither"
            )
        return
    if method.reads_texts and data.texts is None:
        raise ValueError(f"{name} compares with texts: give the reference data texts=…")
    if data.batch < method.least_samples:
        raise ValueError(
            f"{name} compares {method.least_samples} or more images with each other, and "
            f"reference_data has batch={data.batch}: raise batch"
        )
