"""Names of the groups of checks, known without torch."""

from __future__ import annotations

GROUPS = (
    *("environment", "losses", "training", "caches", "resume", "evaluation", "input", "runner"),
    "ranks",
)
"""Groups of the checks, in the order in which the checks are made; ``--times`` adds another."""
