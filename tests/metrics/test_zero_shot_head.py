"""The head of a zero-shot metric has a column for each label."""

from __future__ import annotations

import pytest
import torch

from avalanche_proxyfda.metrics import PanelFeatures, zero_shot_accuracies
from avalanche_proxyfda.models import TextHead


def test_a_head_with_too_few_classes_is_refused() -> None:
    rows = torch.eye(4), torch.tensor([0, 1, 2, 3])
    features = PanelFeatures("pets", {"train": rows, "test": rows})
    assert zero_shot_accuracies(features, TextHead(torch.eye(4))) == {"test": 1.0}
    with pytest.raises(ValueError, match="pets has the label 3, and its head has 3 classes"):
        zero_shot_accuracies(features, TextHead(torch.eye(4)[:3]))
