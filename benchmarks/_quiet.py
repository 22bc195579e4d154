"""Silences warnings of dependencies that users of the benchmarks cannot fix."""

from __future__ import annotations

import warnings

from avalanche_proxyfda.streams.files.left_out import LeftOutWarning


def quiet() -> None:
    """Ignore the warnings; every process calls this before it imports Avalanche."""
    warnings.filterwarnings("ignore", message="no QP solver found")
    warnings.filterwarnings("ignore", message="No loggers specified")
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    # the process that plans the runs prints these, once
    warnings.filterwarnings("ignore", category=LeftOutWarning)
