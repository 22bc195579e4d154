"""Reproduces a run from its record: weights, numbers and figures."""
