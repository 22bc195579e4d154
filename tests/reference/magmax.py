"""MagMax, one number at a time."""

from __future__ import annotations


def merged(start: list[float], tuned: list[list[float]], scale: float) -> list[float]:
    """The shipped weights after the tasks whose tuned weights are given, in order."""
    shipped = []
    for k, origin in enumerate(start):
        chosen = 0.0
        for weights in tuned:
            change = weights[k] - origin
            if abs(change) >= abs(chosen):
                chosen = change
        shipped.append(origin + scale * chosen)
    return shipped
