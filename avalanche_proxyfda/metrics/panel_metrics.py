"""All metrics of one panel at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import nn

from avalanche_proxyfda.metrics.drift_metric import DriftMetric
from avalanche_proxyfda.metrics.knn_metric import KNNMetric
from avalanche_proxyfda.metrics.panel import Panel
from avalanche_proxyfda.metrics.panel_metric import PanelMetric
from avalanche_proxyfda.metrics.probe_metric import LinearProbeMetric
from avalanche_proxyfda.metrics.zero_shot_metric import ZeroShotMetric


def panel_metrics(
    panel: Panel,
    linear_probe: bool = True,
    knn: bool = False,
    zero_shot: Mapping[str, nn.Module] | None = None,
    drift: Sequence[str] = (),
) -> list[PanelMetric]:
    """Metrics of one panel, for Avalanche's ``EvaluationPlugin``; they share its features.

    Args:
        panel: the data sets.
        linear_probe: adds :class:`LinearProbeMetric`.
        knn: adds :class:`KNNMetric`.
        zero_shot: heads for :class:`ZeroShotMetric`, by set; None leaves the metric out.
        drift: measures for :class:`DriftMetric`, against the first moment; empty leaves the
            metric out.

    Raises:
        ValueError: when no metric is asked for, or an option of a metric is wrong.

    Example:
        >>> import torch
        >>> from avalanche.training.plugins import EvaluationPlugin
        >>> from torch.utils.data import TensorDataset
        >>> from avalanche_proxyfda.metrics import Panel, PanelSet, panel_metrics
        >>> data = TensorDataset(torch.zeros(4, 3, 8, 8), torch.tensor([0, 1, 0, 1]))
        >>> metrics = panel_metrics(Panel([PanelSet("pets", data, data)]), knn=True, drift=("l2",))
        >>> [metric.symbol for metric in metrics]
        ['LP', 'KNN', 'Drift']
        >>> evaluator = EvaluationPlugin(*metrics)  # for Naive(..., evaluator=evaluator)
    """
    metrics: list[PanelMetric] = []
    if linear_probe:
        metrics.append(LinearProbeMetric(panel))
    if knn:
        metrics.append(KNNMetric(panel))
    if zero_shot is not None:
        metrics.append(ZeroShotMetric(panel, zero_shot))
    if drift:
        metrics.append(DriftMetric(panel, drift))
    if not metrics:
        raise ValueError("panel_metrics was asked for no metric: choose at least one")
    return metrics
