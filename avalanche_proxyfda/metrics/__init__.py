"""Measures of what a model has kept."""

from avalanche_proxyfda.metrics.drift import linear_cka, mean_l2, neighbor_overlap
from avalanche_proxyfda.metrics.knn import knn_accuracy
from avalanche_proxyfda.metrics.linear_probe import Probe, fit_probe, select_probe
from avalanche_proxyfda.metrics.otdd import otdd
from avalanche_proxyfda.metrics.panel import Panel, PanelFeatures, PanelSet
from avalanche_proxyfda.metrics.panel_metrics import (
    DriftMetric,
    KNNMetric,
    LinearProbeMetric,
    PanelMetric,
    ZeroShotMetric,
    panel_metrics,
)

__all__ = [
    "DriftMetric",
    "KNNMetric",
    "LinearProbeMetric",
    "Panel",
    "PanelFeatures",
    "PanelMetric",
    "PanelSet",
    "Probe",
    "ZeroShotMetric",
    "fit_probe",
    "knn_accuracy",
    "linear_cka",
    "mean_l2",
    "neighbor_overlap",
    "otdd",
    "panel_metrics",
    "select_probe",
]
