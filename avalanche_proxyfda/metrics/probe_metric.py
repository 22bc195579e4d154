"""The linear-probe accuracy of a panel."""

from __future__ import annotations

from avalanche_proxyfda._checks import check_amount
from avalanche_proxyfda.features.linear_probe import GRID, fit_probe, select_probe
from avalanche_proxyfda.metrics.panel import Panel, PanelFeatures, Split
from avalanche_proxyfda.metrics.panel_metric import PanelMetric


def probe_accuracies(features: PanelFeatures, grid: tuple[float, ...] = GRID) -> dict[Split, float]:
    """Accuracy of a linear probe on the validation and test splits of one set.

    The probe is fitted on the training split, with the penalty that is best on the validation
    split. A set without a validation split holds out a fifth of the training split to choose
    the penalty; the probe is then fitted again on the whole of it, and the result has the test
    accuracy only. The device of the features fits the probes.

    Args:
        features: features and labels of the set.
        grid: penalties to choose from.

    Raises:
        ValueError: when ``grid`` is empty, or no training image can be held out.
    """
    features = features.placed()
    train, validation = features.choosing()
    probe = select_probe(train, validation, features.classes, grid)
    if "validation" not in features.splits:
        probe = fit_probe(*features.splits["train"], features.classes, probe.l2, probe)
    return {split: probe.accuracy(*rows) for split, rows in features.evaluation.items()}


class LinearProbeMetric(PanelMetric):
    """``LP/<set>`` and ``Delta_LP/<set>``: test accuracy of a linear probe.

    A Δ_LP below zero is concept forgetting (arXiv 2308.13320). The probe's penalty is chosen
    anew at each moment, see :func:`probe_accuracies`.

    Args:
        panel: see :class:`PanelMetric`.
        grid: penalties to choose from.

    Raises:
        ValueError: when ``grid`` is empty, or a penalty is not positive.
    """

    symbol = "LP"

    def __init__(self, panel: Panel, grid: tuple[float, ...] = GRID) -> None:
        super().__init__(panel)
        if not grid or any(check_amount("grid", l2) == 0 for l2 in grid):
            raise ValueError(f"grid={grid} must hold positive penalties, at least one")
        self.grid = grid

    def measure(self, features: PanelFeatures) -> dict[str, float]:
        """The probe's test accuracy."""
        return {"": probe_accuracies(features, self.grid)["test"]}
