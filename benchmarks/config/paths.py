"""The configurations of a path: one method at each of several strengths."""

from __future__ import annotations

import math
from collections.abc import Sequence

from benchmarks.config.schema import Config, changed
from benchmarks.methods.registry import METHODS, Strength


def path_configs(config: Config, strengths: Sequence[Strength]) -> list[Config]:
    """Return ``config`` at each strength; ``config`` alone for a method without a strength.

    Raises:
        TypeError, ValueError: for an empty grid, strengths that repeat, are negative or not
            finite, and a stream without validation data to choose settings on.
    """
    if METHODS[config.method].knob is None:
        return [config]
    if getattr(config.stream, "validation_share", 1) == 0:
        raise ValueError("a path is chosen on validation data: set stream.validation_share above 0")
    values = [_checked(value) for value in strengths]
    if not values or len(set(values)) < len(values):
        raise ValueError(f"strengths={list(strengths)} must hold different numbers, at least one")
    return [changed(config, strength=value) for value in values]


def _checked(strength: Strength) -> Strength:
    if isinstance(strength, str) and strength == "auto":
        return strength
    if isinstance(strength, bool) or not isinstance(strength, (int, float)):
        raise TypeError(f"strengths={strength!r} must be a number, or auto")
    if not math.isfinite(strength) or strength < 0:
        raise ValueError(f"strengths={strength} must be finite and not negative")
    return float(strength)
