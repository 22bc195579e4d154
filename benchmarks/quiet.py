"""Silences warnings of dependencies that a user of the benchmarks can do nothing about."""

from __future__ import annotations

import warnings


def quiet() -> None:
    """Call before Avalanche is imported, in every process."""
    warnings.filterwarnings("ignore", message="no QP solver found")
    warnings.filterwarnings("ignore", message="No loggers specified")
    warnings.filterwarnings("ignore", category=DeprecationWarning)
