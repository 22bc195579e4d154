"""The feature drift of a panel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from torch import Tensor

from avalanche_proxyfda._checks import check_count
from avalanche_proxyfda._float64 import float64_device
from avalanche_proxyfda.metrics.drift import MEASURES, check_measures, drift_between, measure_names
from avalanche_proxyfda.metrics.panel import Panel, PanelFeatures
from avalanche_proxyfda.metrics.panel_metric import PanelMetric


class DriftMetric(PanelMetric):
    """How far test features have moved: ``Drift_L2/<set>``, ``Drift_CKA/<set>`` and so on.

    Args:
        panel: see :class:`PanelMetric`.
        measures: names of :data:`~avalanche_proxyfda.metrics.MEASURES`; None takes every
            measure that is not optional.
        since: compares with the ``"initial"`` features, or with those of the ``"previous"``
            moment.
        num_neighbors: K of the measure ``neighbors``.

    Raises:
        TypeError, ValueError: when a measure or ``since`` is unknown, or ``num_neighbors`` is
            not a positive int.

    Example:
        >>> import torch
        >>> from torch.utils.data import TensorDataset
        >>> from avalanche_proxyfda.metrics import DriftMetric, Panel, PanelFeatures, PanelSet
        >>> data = TensorDataset(torch.zeros(4, 3, 8, 8), torch.tensor([0, 1, 0, 1]))
        >>> panel = Panel([PanelSet("pets", train=data, test=data)])
        >>> metric = DriftMetric(panel, measures=("l2",), since="previous")
        >>> rows, labels = torch.eye(4), data.tensors[1]
        >>> moments = [PanelFeatures("pets", {"test": (x, labels)}) for x in (rows, -rows, -rows)]
        >>> [metric.measure(features) for features in moments]  # the features move once
        [{'_L2': 0.0}, {'_L2': 2.0}, {'_L2': 0.0}]
    """

    symbol = "Drift"
    settings = ("measures", "since", "num_neighbors")

    def __init__(
        self,
        panel: Panel,
        measures: Sequence[str] | None = None,
        since: Literal["initial", "previous"] = "initial",
        num_neighbors: int = 10,
    ) -> None:
        super().__init__(panel)
        self.measures = measure_names() if measures is None else check_measures(measures)
        if since not in ("initial", "previous"):
            raise ValueError(f"since={since!r} is unknown; choose 'initial' or 'previous'")
        self.since = since
        self.num_neighbors = check_count("num_neighbors", num_neighbors, 1)
        self._before: dict[str, Tensor] = {}

    def reset(self) -> None:
        """Drop all moments and the features of the moment to compare with."""
        super().reset()
        self._before = {}

    def state_dict(self) -> dict[str, Any]:
        """The state of a panel metric, and the features to compare with, [N, D] by set."""
        return {**super().state_dict(), "before": dict(self._before)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a result of :meth:`state_dict`.

        Raises:
            ValueError: when the saved metric had other sets or settings.
        """
        super().load_state_dict(state)
        self._before = dict(state["before"])

    def changes(self, values: Mapping[str, float]) -> dict[str, float]:
        """Always empty: a drift is a difference already."""
        return {}

    def measure(self, features: PanelFeatures) -> dict[str, float]:
        """Drift of the test features; at the first moment they are compared with themselves."""
        rows, labels = features.rows("test")
        before = self._before.setdefault(features.name, rows)
        if self.since == "previous":
            self._before[features.name] = rows
        place = float64_device(features.device)
        values = drift_between(
            before.to(place), rows.to(place), labels, self.measures, self.num_neighbors
        )
        return {MEASURES[name].suffix: value for name, value in values.items()}
