"""Bounds of the measurements, which ``--check`` asserts."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Bound:
    """Upper bound of a measured value.

    Attributes:
        of: name of the value in a report's ``checked``.
        most: largest allowed value.
        unit: unit of the value and the bound.
    """

    of: str
    most: float
    unit: str = "x plain fine-tuning"


STEP = (
    Bound("fda, cached", 1.02),
    Bound("proxy-fda, cached", 1.05),
    Bound("soft-fda + ldifs, cached", 1.05),
    Bound("wise-ft + soft-fda, cached", 1.05),
    *(Bound(name, 1.40) for name in ("fda", "proxy-fda", "ldifs", "rkd", "pkt", "rift", "lwf")),
    *(Bound(name, 1.40) for name in ("soft-fda", "soft-fda + ldifs", "wise-ft + soft-fda")),
)
"""Bounds of the median step time, for ViT-B/32 at B = 64 on the CPU."""

SAVED = (Bound("proxy-fda, B = 1024, D = 768", 256.0, "MiB"),)
"""Bounds of the bytes that a loss saves for backward."""

LAUNCHES = (
    Bound("fda, B = 256", 100.0, "operations"),
    Bound("proxy-fda, B = 256", 600.0, "operations"),
    Bound("rkd, B = 256", 300.0, "operations"),
    Bound("pkt, B = 256", 100.0, "operations"),
    Bound("soft-fda, B = 256", 100.0, "operations"),
)
"""Bounds of the operations of a step of a loss, D = 512, on an accelerator of 80 GiB."""


def exceeded(values: Mapping[str, float], bounds: tuple[Bound, ...]) -> list[str]:
    """Compare values with their bounds and print each comparison to stderr.

    Args:
        values: measured values by name.
        bounds: bounds; those of values that were not measured are skipped.

    Returns:
        One line for each value above its bound.

    Raises:
        ValueError: if no value has a bound.
    """
    known = [bound for bound in bounds if bound.of in values]
    if not known:
        raise ValueError(
            "--check: nothing was measured that has a bound; these have one: "
            f"{', '.join(bound.of for bound in bounds)}"
        )
    lines = []
    for bound in known:
        value = values[bound.of]
        above = not value <= bound.most  # NaN counts as above
        line = f"{bound.of}: {value:.4g} {bound.unit}, at most {bound.most:g}"
        print(f"{'exceeded' if above else 'within'}: {line}", file=sys.stderr)
        if above:
            lines.append(line)
    return lines
