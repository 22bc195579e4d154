"""Measures of what a model has kept."""

from avalanche_proxyfda.metrics.linear_probe import Probe, fit_probe, select_probe

__all__ = ["Probe", "fit_probe", "select_probe"]
