"""The options of ``preset="paper"``, which fixes the letter of the paper."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PAPER: Mapping[str, Any] = {
    "num_neighbors": None,
    "hard_class_batches": True,
    "mining": "online",
    "classes_per_batch": 16,
    "samples_per_class": 4,
    "negative_weight": "similarity",
    "start": "siglip",
    "init_logit_scale": 10.0,
    "init_logit_bias": -10.0,
    "learnable": True,
}
"""Options of ``preset="paper"``: the letter of the paper, where it speaks."""
PAPER_BATCH: int = PAPER["classes_per_batch"] * PAPER["samples_per_class"]
"""Samples of the paper's batch."""


def under_preset(
    preset: str | None,
    name: str,
    value: Any,
    default: Any = None,
    letter: Mapping[str, Any] = PAPER,
) -> Any:
    """Return the value of an option under a preset.

    Args:
        preset: None or ``"paper"``.
        name: name of the option, a key of ``letter``.
        value: the option as given.
        default: the value if ``value`` is None and there is no preset.
        letter: the options that the preset fixes.

    Raises:
        ValueError: if the preset fixes another value.

    Example:
        >>> from avalanche_proxyfda.plugins.base.preset import under_preset
        >>> under_preset("paper", "start", None, "fitted"), under_preset(None, "start", None, "x")
        ('siglip', 'x')
    """
    if preset is None:
        return default if value is None else value
    if value is None or value == letter[name]:
        return letter[name]
    raise ValueError(
        f"{name}={value!r} contradicts preset='paper', which fixes {name}={letter[name]!r}: leave "
        f"{name} out, or drop the preset"
    )
