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
        TypeError, ValueError: when ``grid`` is empty or holds no positive numbers, there is no
            training split, no training image can be held out, a training label is negative, or a
            feature is not finite.

    Example:
        >>> import torch
        >>> from avalanche_proxyfda.metrics import PanelFeatures, probe_accuracies
        >>> rows = torch.tensor([[1.0, 0.1], [1.0, -0.1], [-1.0, 0.1], [-1.0, -0.1]])
        >>> known = rows, torch.tensor([0, 0, 1, 1])
        >>> unknown = rows, torch.tensor([0, 1, 1, 1])  # the probe misses one
        >>> probe_accuracies(PanelFeatures("pets", {"train": known, "test": unknown}))
        {'test': 0.75}
    """
    features = features.placed()
    train, validation = features.choosing()
    probe = select_probe(train, validation, features.classes, grid)
    if "validation" not in features.splits:
        probe = fit_probe(*features.rows("train"), features.classes, probe.l2, probe)
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

    Example:
        >>> import torch
        >>> from avalanche.training import Naive
        >>> from avalanche.training.plugins import EvaluationPlugin
        >>> from torch import nn
        >>> from torch.utils.data import TensorDataset
        >>> from avalanche_proxyfda.metrics import LinearProbeMetric, Panel, PanelSet
        >>> images = torch.zeros(4, 3, 8, 8)
        >>> images[:2, 0] = images[2:, 2] = 1  # two red images and two blue ones
        >>> data = TensorDataset(images, torch.tensor([0, 0, 1, 1]))
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(192, 5), nn.ReLU(), nn.Linear(5, 2))
        >>> metric = LinearProbeMetric(Panel([PanelSet("colours", data, data)], feature_module="0"))
        >>> optimizer, evaluator = torch.optim.AdamW(model.parameters()), EvaluationPlugin(metric)
        >>> strategy = Naive(model=model, optimizer=optimizer, evaluator=evaluator)
        >>> _ = metric.before_training(strategy)  # strategy.train(...) begins with it
        >>> metric.result()
        {'LP/colours': 1.0, 'LP/mean': 1.0}
    """

    symbol = "LP"
    settings = ("grid",)

    def __init__(self, panel: Panel, grid: tuple[float, ...] = GRID) -> None:
        super().__init__(panel)
        if not grid or any(check_amount("grid", l2) == 0 for l2 in grid):
            raise ValueError(f"grid={grid} must hold positive penalties, at least one")
        self.grid = grid

    def measure(self, features: PanelFeatures) -> dict[str, float]:
        """The probe's test accuracy."""
        features.rows("test")  # refuses features without a test split before the fit
        return {"": probe_accuracies(features, self.grid)["test"]}
