"""Imports qpsolvers without its warning that no QP solver is installed.

Avalanche imports qpsolvers for GEM alone. A module that needs no strategy imports this module
before it imports Avalanche.
"""

from __future__ import annotations

import warnings
from importlib import import_module

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message="no QP solver found")
    import_module("qpsolvers")
