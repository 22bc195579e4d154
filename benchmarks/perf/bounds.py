"""What the measurements may not exceed; ``--check`` asks."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Bound:
    """The most that one measured value may be.

    Attributes:
        of: name of the value in a report's ``checked``.
        most: the bound itself is still allowed.
        unit: of both.
    """

    of: str
    most: float
    unit: str = "x plain fine-tuning"


STEP = (
    Bound("fda, cached", 1.02),
    Bound("proxy-fda, cached", 1.05),
    *(Bound(name, 1.40) for name in ("fda", "proxy-fda", "ldifs", "rkd", "rift", "lwf")),
)
"""Median step times, for ViT-B/32 at B = 64 on the CPU."""

SAVED = (Bound("proxy-fda, B = 1024, D = 768", 256.0, "MiB"),)
"""Bytes that a loss keeps for backward."""


def exceeded(values: Mapping[str, float], bounds: tuple[Bound, ...]) -> list[str]:
    """What is above its bound, in words, one of them for each.

    Raises:
        ValueError: when none of the bounded values was measured.
    """
    known = [bound for bound in bounds if bound.of in values]
    if not known:
        raise ValueError(
            f"--check: nothing was measured that has a bound; these have: "
            f"{', '.join(bound.of for bound in bounds)}"
        )
    found = []
    for bound in known:
        value = values[bound.of]
        above = not value <= bound.most  # NaN is above as well
        line = f"{bound.of}: {value:.4g} {bound.unit}, at most {bound.most:g}"
        print(f"{'exceeded' if above else 'held'}: {line}", file=sys.stderr)
        if above:
            found.append(line)
    return found
