"""The zero-shot accuracy of a panel."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from avalanche_proxyfda._labelled import check_same_width
from avalanche_proxyfda.metrics.panel import Panel, PanelFeatures, Split
from avalanche_proxyfda.metrics.panel_metric import PanelMetric
from avalanche_proxyfda.teacher.snapshot import frozen_copy


def zero_shot_accuracies(features: PanelFeatures, head: nn.Module) -> dict[Split, float]:
    """Accuracy of a fixed head on the validation and test splits of one set.

    Args:
        features: features and labels of the set; the validation split may be absent.
        head: takes features [N, D] to logits [N, C], in the order of the labels; in eval mode.
            Features are moved to the device and dtype of its weights.

    Raises:
        ValueError: when the head's ``weight`` is for features of another width, or the head
            returns another shape than [N, C] or has no column for a label.

    Example:
        >>> import torch
        >>> from avalanche_proxyfda.metrics import PanelFeatures, zero_shot_accuracies
        >>> from avalanche_proxyfda.models import TextHead
        >>> head = TextHead(torch.eye(2))  # embeddings of the texts of two classes
        >>> rows = torch.tensor([[0.9, 0.1], [0.2, 0.8]]), torch.tensor([0, 1])
        >>> zero_shot_accuracies(PanelFeatures("pets", {"train": rows, "test": rows}), head)
        {'test': 1.0}
    """
    weights = [*head.parameters(), *head.buffers()]
    weight = next((t for t in weights if t.is_floating_point()), None)

    def accuracy(rows: Tensor, labels: Tensor) -> float:
        inputs = rows if weight is None else rows.to(weight.device, weight.dtype)
        logits = head(inputs)
        if logits.ndim != 2 or len(logits) != len(rows):
            raise ValueError(
                f"head returns the shape {tuple(logits.shape)} for features {tuple(rows.shape)} of "
                f"{features.name}; it must return logits [N, C]"
            )
        largest = int(labels.max()) if len(labels) else -1
        if largest >= logits.shape[1]:
            raise ValueError(
                f"{features.name} has the label {largest}, and its head has {logits.shape[1]} "
                "classes: give a head with a row for each label"
            )
        return float((logits.argmax(dim=1).cpu() == labels.cpu()).double().mean())

    matrix = getattr(head, "weight", None)
    for split, (rows, _) in features.evaluation.items():
        if isinstance(matrix, Tensor) and matrix.ndim == 2:
            name = f"{features.name}: splits[{split!r}][0]"
            check_same_width(name, rows, "head.weight", matrix.shape[1])
    with torch.no_grad():
        return {split: accuracy(*rows) for split, rows in features.evaluation.items()}


class ZeroShotMetric(PanelMetric):
    """``ZS/<set>`` and ``Delta_ZS/<set>``: test accuracy of a head that is never trained.

    Args:
        panel: see :class:`PanelMetric`.
        heads: a head for each set of the panel by the set's name, see
            :func:`zero_shot_accuracies` and :func:`~avalanche_proxyfda.models.text_head`. The
            metric keeps frozen copies in eval mode.

    Raises:
        ValueError: when a set has no head.

    Example:
        >>> import torch
        >>> from torch.utils.data import TensorDataset
        >>> from avalanche_proxyfda.metrics import Panel, PanelFeatures, PanelSet, ZeroShotMetric
        >>> from avalanche_proxyfda.models import TextHead
        >>> data = TensorDataset(torch.zeros(2, 3, 8, 8), torch.tensor([0, 1]))
        >>> panel = Panel([PanelSet("pets", train=data, test=data)])
        >>> metric = ZeroShotMetric(panel, heads={"pets": TextHead(torch.eye(2))})
        >>> rows = torch.tensor([[0.9, 0.1], [0.2, 0.8]]), data.tensors[1]
        >>> metric.measure(PanelFeatures("pets", {"train": rows, "test": rows}))
        {'': 1.0}
    """

    symbol = "ZS"

    def __init__(self, panel: Panel, heads: Mapping[str, nn.Module]) -> None:
        super().__init__(panel)
        missing = [data.name for data in panel.sets if data.name not in heads]
        if missing:
            raise ValueError(
                f"heads has no head for {', '.join(map(repr, missing))}: give one for each set "
                "of the panel, or leave the set out of the panel"
            )
        self.heads = {name: frozen_copy(head) for name, head in heads.items()}

    def measure(self, features: PanelFeatures) -> dict[str, float]:
        """The head's test accuracy."""
        features.rows("test")  # refuses features without a test split
        return {"": zero_shot_accuracies(features, self.heads[features.name])["test"]}
