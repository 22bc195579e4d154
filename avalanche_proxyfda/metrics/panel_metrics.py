"""Avalanche metrics of what a model has kept of a panel, before and after each experience."""

from __future__ import annotations

import statistics
import weakref
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from avalanche.evaluation import PluginMetric
from avalanche.evaluation.metric_results import MetricValue
from torch import Tensor, nn

from avalanche_proxyfda.losses.base import check_amount, check_count
from avalanche_proxyfda.metrics.drift import linear_cka, mean_l2, neighbor_overlap
from avalanche_proxyfda.metrics.knn import knn_accuracy
from avalanche_proxyfda.metrics.linear_probe import GRID, fit_probe, select_probe
from avalanche_proxyfda.metrics.otdd import otdd
from avalanche_proxyfda.metrics.panel import Panel, PanelFeatures
from avalanche_proxyfda.teacher import frozen_copy

Measure = Literal["l2", "cka", "neighbors", "otdd"]


class PanelMetric(PluginMetric[dict[str, float]]):
    """Measures a panel before the stream and after each experience.

    It never calls ``strategy.eval``, and leaves modes, heads and random streams as they are:
    a run with it and one without end in the same weights.

    Args:
        panel: shared by all metrics that are given the same one.

    Attributes:
        history: values by name, one dict a moment; the first is before the stream.
    """

    symbol: str

    def __init__(self, panel: Panel) -> None:
        super().__init__()
        if not isinstance(panel, Panel):
            raise TypeError(f"panel={panel!r} must be a Panel")
        self.panel = panel
        self.history: list[dict[str, float]] = []
        self._owner: weakref.ref[Any] | None = None

    @abstractmethod
    def measure(self, features: PanelFeatures) -> dict[str, float]:
        """Values of one set, by what follows the metric's name."""

    def result(self) -> dict[str, float] | None:
        """The values of the last moment; None before the first."""
        return self.history[-1] if self.history else None

    def reset(self) -> None:
        """Forget all moments, the first as well, and the strategy that they were of."""
        self.history, self._owner = [], None
        self.panel.forget()

    def before_training(self, strategy: Any) -> Any:
        """Measure the model as it was given, once.

        Raises:
            ValueError: for another strategy than before, whose first moment this is not.
        """
        if self._owner is not None and self._owner() is not strategy:
            raise ValueError(
                f"this {type(self).__name__} holds the moments of another strategy: make one for "
                "each, or call reset()"
            )
        self._owner = weakref.ref(strategy)
        return None if self.history else self._moment(strategy)

    def after_training_exp(self, strategy: Any) -> Any:
        """Measure what the experience has left."""
        return self._moment(strategy)

    def _moment(self, strategy: Any) -> list[MetricValue]:
        found: dict[str, dict[str, float]] = {}  # by what follows the name, then by set
        for name, features in self.panel.at(strategy).items():
            for suffix, value in self.measure(features).items():
                found.setdefault(suffix, {})[name] = value
        values = {
            f"{self.symbol}{suffix}/{name}": value
            for suffix, by_set in found.items()
            for name, value in [*by_set.items(), ("mean", statistics.mean(by_set.values()))]
        }
        values |= self.changes(values)
        self.history.append(values)
        step = strategy.clock.train_iterations
        return [MetricValue(self, name, value, step) for name, value in values.items()]

    def __getstate__(self) -> dict[str, Any]:
        """For pickling: without the strategy."""
        return {**self.__dict__, "_owner": None}

    def changes(self, values: Mapping[str, float]) -> dict[str, float]:
        """Differences to the first moment, as ``Delta_<name>``; none in the first."""
        if not self.history:
            return {}
        return {f"Delta_{name}": value - self.history[0][name] for name, value in values.items()}


class LinearProbeMetric(PanelMetric):
    """``LP/<set>`` and ``Delta_LP/<set>``: test accuracy of a linear probe.

    Δ_LP below zero is concept forgetting (arXiv 2308.13320). The probe's penalty is chosen on
    validation data, anew at each moment.

    Args:
        panel: see :class:`PanelMetric`.
        grid: penalties to choose from.
    """

    symbol = "LP"

    def __init__(self, panel: Panel, grid: tuple[float, ...] = GRID) -> None:
        super().__init__(panel)
        if not grid or any(check_amount("grid", l2) == 0 for l2 in grid):
            raise ValueError(f"grid={grid} must hold positive penalties, at least one")
        self.grid = grid

    def measure(self, features: PanelFeatures) -> dict[str, float]:
        """The probe's test accuracy."""
        train, validation = features.choosing()
        probe = select_probe(train, validation, features.classes, self.grid)
        if "validation" not in features.splits:  # the fifth that was held out counts again
            probe = fit_probe(*features.splits["train"], features.classes, probe.l2, probe)
        return {"": probe.accuracy(*features.splits["test"])}


class KNNMetric(PanelMetric):
    """``KNN/<set>`` and ``Delta_KNN/<set>``: see :func:`knn_accuracy`.

    Args:
        panel: see :class:`PanelMetric`.
        num_neighbors: K.
    """

    symbol = "KNN"

    def __init__(self, panel: Panel, num_neighbors: int = 20) -> None:
        super().__init__(panel)
        self.num_neighbors = check_count("num_neighbors", num_neighbors, 1)

    def measure(self, features: PanelFeatures) -> dict[str, float]:
        """The vote's test accuracy."""
        splits = features.splits
        return {"": knn_accuracy(splits["train"], splits["test"], self.num_neighbors)}


class ZeroShotMetric(PanelMetric):
    """``ZS/<set>`` and ``Delta_ZS/<set>``: accuracy of a head that is never trained.

    Args:
        panel: see :class:`PanelMetric`.
        heads: of each of the panel's sets, features [N, D] to logits [N, C], in the order of
            the labels; copied, frozen and in eval mode. See
            :func:`~avalanche_proxyfda.models.text_head`.

    Raises:
        ValueError: when a set has no head.
    """

    symbol = "ZS"

    def __init__(self, panel: Panel, heads: Mapping[str, nn.Module]) -> None:
        super().__init__(panel)
        missing = [data.name for data in panel.sets if data.name not in heads]
        if missing:
            raise ValueError(f"heads has none for {', '.join(missing)}")
        self.heads = {name: frozen_copy(head) for name, head in heads.items()}

    def measure(self, features: PanelFeatures) -> dict[str, float]:
        """The head's test accuracy."""
        rows, labels = features.splits["test"]
        head = self.heads[features.name]
        weights = [*head.parameters(), *head.buffers()]
        place = next((t for t in weights if t.is_floating_point()), rows)
        with torch.no_grad():
            guesses = head(rows.to(place.device, place.dtype)).argmax(dim=1).cpu()
        return {"": float((guesses == labels).double().mean())}


class DriftMetric(PanelMetric):
    """How far test features have moved: ``Drift_L2/<set>``, ``Drift_CKA/<set>`` and so on.

    ``l2`` is :func:`mean_l2`, ``cka`` :func:`linear_cka`, ``neighbors``
    :func:`neighbor_overlap` (the share of neighbours kept), ``otdd`` :func:`otdd` between the
    two clouds of features.

    Args:
        panel: see :class:`PanelMetric`.
        measures: which.
        since: compare with the features ``"initial"``ly, or at the ``"previous"`` moment.
        num_neighbors: K of ``neighbors``.

    Raises:
        ValueError: for an unknown measure or moment.
    """

    symbol = "Drift"

    def __init__(
        self,
        panel: Panel,
        measures: Sequence[Measure] = ("l2", "cka", "neighbors"),
        since: Literal["initial", "previous"] = "initial",
        num_neighbors: int = 10,
    ) -> None:
        super().__init__(panel)
        known = ("l2", "cka", "neighbors", "otdd")
        if not measures or any(m not in known for m in measures):
            raise ValueError(f"measures={tuple(measures)} must be of {known}, at least one")
        if since not in ("initial", "previous"):
            raise ValueError(f"since={since!r} is unknown; choose 'initial' or 'previous'")
        self.measures, self.since = tuple(dict.fromkeys(measures)), since
        self.num_neighbors = check_count("num_neighbors", num_neighbors, 1)
        self._before: dict[str, Tensor] = {}

    def reset(self) -> None:
        """Forget all moments and the features that were compared with."""
        super().reset()
        self._before = {}

    def changes(self, values: Mapping[str, float]) -> dict[str, float]:
        """None: a drift is a difference already."""
        return {}

    def measure(self, features: PanelFeatures) -> dict[str, float]:
        """Distances of the test features to those of before; to themselves at first."""
        rows, labels = features.splits["test"]
        before = self._before.setdefault(features.name, rows)
        if self.since == "previous":
            self._before[features.name] = rows
        found = {}
        for name in self.measures:
            if name == "l2":
                found["_L2"] = mean_l2(before, rows)
            elif name == "cka":
                found["_CKA"] = linear_cka(before, rows)
            elif name == "neighbors":
                found["_Neighbors"] = neighbor_overlap(before, rows, self.num_neighbors)
            else:
                found["_OTDD"] = otdd(before, labels, rows, labels)
        return found


def panel_metrics(
    panel: Panel,
    linear_probe: bool = True,
    knn: bool = False,
    zero_shot: Mapping[str, nn.Module] | None = None,
    drift: Sequence[Measure] = (),
) -> list[PanelMetric]:
    """Metrics of one panel, for Avalanche's ``EvaluationPlugin``; they share its features.

    Args:
        panel: the data sets.
        linear_probe: whether to measure :class:`LinearProbeMetric`.
        knn: whether to measure :class:`KNNMetric`.
        zero_shot: heads for :class:`ZeroShotMetric`; None leaves it out.
        drift: measures of :class:`DriftMetric`, against the first moment; empty leaves it out.
    """
    made: list[PanelMetric] = []
    if linear_probe:
        made.append(LinearProbeMetric(panel))
    if knn:
        made.append(KNNMetric(panel))
    if zero_shot is not None:
        made.append(ZeroShotMetric(panel, zero_shot))
    if drift:
        made.append(DriftMetric(panel, drift))
    if not made:
        raise ValueError("panel_metrics was asked for no metric")
    return made
