"""Measures of what a model has kept."""

from avalanche_proxyfda.metrics.drift import linear_cka, mean_l2, neighbor_overlap
from avalanche_proxyfda.metrics.knn import knn_accuracy
from avalanche_proxyfda.metrics.linear_probe import Probe, fit_probe, select_probe
from avalanche_proxyfda.metrics.otdd import otdd

__all__ = [
    "Probe",
    "fit_probe",
    "knn_accuracy",
    "linear_cka",
    "mean_l2",
    "neighbor_overlap",
    "otdd",
    "select_probe",
]
