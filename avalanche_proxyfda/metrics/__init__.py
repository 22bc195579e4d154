"""Metrics of a model's features while the model learns a stream."""

from avalanche_proxyfda.features.linear_probe import Probe, fit_probe, select_probe
from avalanche_proxyfda.metrics.csv_logger import MetricsCSVLogger
from avalanche_proxyfda.metrics.drift import (
    MEASURES,
    Measure,
    defined_drift,
    drift_between,
    linear_cka,
    mean_l2,
    measure_names,
    neighbor_overlap,
)
from avalanche_proxyfda.metrics.drift_metric import DriftMetric
from avalanche_proxyfda.metrics.knn import knn_accuracy
from avalanche_proxyfda.metrics.knn_metric import KNNMetric
from avalanche_proxyfda.metrics.otdd import otdd
from avalanche_proxyfda.metrics.panel import Panel, PanelFeatures, PanelSet
from avalanche_proxyfda.metrics.panel_metric import PanelMetric
from avalanche_proxyfda.metrics.panel_metrics import panel_metrics
from avalanche_proxyfda.metrics.probe_metric import LinearProbeMetric, probe_accuracies
from avalanche_proxyfda.metrics.zero_shot_metric import ZeroShotMetric, zero_shot_accuracies

__all__ = [
    "MEASURES",
    "DriftMetric",
    "KNNMetric",
    "LinearProbeMetric",
    "Measure",
    "MetricsCSVLogger",
    "Panel",
    "PanelFeatures",
    "PanelMetric",
    "PanelSet",
    "Probe",
    "ZeroShotMetric",
    "defined_drift",
    "drift_between",
    "fit_probe",
    "knn_accuracy",
    "linear_cka",
    "mean_l2",
    "measure_names",
    "neighbor_overlap",
    "otdd",
    "panel_metrics",
    "probe_accuracies",
    "select_probe",
    "zero_shot_accuracies",
]
