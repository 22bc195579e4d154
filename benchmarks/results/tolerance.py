"""How far two runs of one configuration may differ on two machines.

Processors add numbers in another order, so losses differ in a late digit, and training lets the
difference grow. ``docs/records.md`` shows the runs that the table is chosen by.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Tolerance:
    """The largest difference of two values of one kind; the largest of the three parts counts.

    Attributes:
        about: the values of the kind.
        images: part in images of the set that the value was measured on.
        absolute: part in the unit of the value.
        relative: part in shares of the larger value.
    """

    about: str
    images: int = 0
    absolute: float = 0.0
    relative: float = 0.0

    def allowed(self, first: float, second: float, count: int | None = None) -> float:
        """Return the largest difference.

        Args:
            first: the one value.
            second: the other value.
            count: number of images that the values were measured on; None if it is not known.
        """
        images = self.images / count if count else 0.0
        return max(images, self.absolute, self.relative * max(abs(first), abs(second)))


TOLERANCES = {
    "accuracy": Tolerance("an accuracy, of the stream or of the panel", images=2, absolute=0.01),
    "forgetting": Tolerance("forgetting, a mean of differences of accuracies", absolute=0.02),
    "drift": Tolerance("a measure of drift", absolute=0.01, relative=0.02),
    "loss": Tolerance("a term of the loss, mean over an epoch", absolute=1e-3, relative=0.02),
}
"""Tolerances by kind of value; a value of no kind must be equal."""
ROUNDING = 1e-9
"""Share of a tolerance that floating-point numbers may add to a difference."""
