"""The k-nearest-neighbour accuracy of a panel."""

from __future__ import annotations

from avalanche_proxyfda._checks import check_count
from avalanche_proxyfda.metrics.knn import knn_accuracy
from avalanche_proxyfda.metrics.panel import Panel, PanelFeatures
from avalanche_proxyfda.metrics.panel_metric import PanelMetric


class KNNMetric(PanelMetric):
    """``KNN/<set>`` and ``Delta_KNN/<set>``: test accuracy by :func:`knn_accuracy`.

    Args:
        panel: see :class:`PanelMetric`.
        num_neighbors: K, at least 1.

    Raises:
        TypeError, ValueError: when ``num_neighbors`` is not a positive int.

    Example:
        >>> import torch
        >>> from torch.utils.data import TensorDataset
        >>> from avalanche_proxyfda.metrics import KNNMetric, Panel, PanelFeatures, PanelSet
        >>> data = TensorDataset(torch.zeros(4, 3, 8, 8), torch.tensor([0, 0, 1, 1]))
        >>> panel = Panel([PanelSet("pets", train=data, test=data)])
        >>> rows = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]]), data.tensors[1]
        >>> features = PanelFeatures("pets", {"train": rows, "test": rows})
        >>> KNNMetric(panel, num_neighbors=2).measure(features)
        {'': 1.0}
    """

    symbol = "KNN"
    settings = ("num_neighbors",)

    def __init__(self, panel: Panel, num_neighbors: int = 20) -> None:
        super().__init__(panel)
        self.num_neighbors = check_count("num_neighbors", num_neighbors, 1)

    def measure(self, features: PanelFeatures) -> dict[str, float]:
        """The vote's test accuracy."""
        placed = features.placed()
        train, test = placed.rows("train"), placed.rows("test")
        return {"": knn_accuracy(train, test, self.num_neighbors)}
