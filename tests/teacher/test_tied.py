"""Teachers of models with tied weights, and with a module under two names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from torch import Tensor, nn

from avalanche_proxyfda import LPFTPlugin, LwFPlugin, SoftFDAPlugin
from tests.checkpoint.training import BreakOff, BrokenOffError, alike, build, train
from tests.plugins.toys import CLASSES, backbone, classic


class TwoNames(nn.Module):
    """The tower is a child twice, as after ``self.encoder = self.backbone``."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = backbone(dropout=0.0)
        self.encoder = self.backbone
        self.classifier = nn.Linear(8, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.backbone(images))
        return logits


class TiedWeights(nn.Module):
    """Two layers of the tower share a weight."""

    def __init__(self) -> None:
        super().__init__()
        first, second = nn.Linear(8, 8), nn.Linear(8, 8)
        second.weight = first.weight
        self.backbone = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.Tanh(), first, second)
        self.classifier = nn.Linear(8, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.backbone(images))
        return logits


PLUGINS: dict[str, Any] = {
    "soft-fda": lambda: SoftFDAPlugin(1.0, hard_class_batches=False, feature_module="backbone"),
    "initial": lambda: SoftFDAPlugin(
        1.0, teacher="initial", hard_class_batches=False, feature_module="backbone"
    ),
    "lwf": LwFPlugin,
    "lp-ft": lambda: LPFTPlugin(teacher="initial"),
}


@pytest.mark.parametrize(
    ("model", "plugin"),
    [
        (TwoNames, "lwf"),
        (TiedWeights, "soft-fda"),
        (TiedWeights, "initial"),
        (TiedWeights, "lp-ft"),
    ],
)
def test_a_training_is_resumed_with_its_teacher(model: Any, plugin: str, tmp_path: Path) -> None:
    make, stream = PLUGINS[plugin], classic(2)
    whole = train(build(model, make(), BreakOff()), stream, tmp_path / "whole")
    with pytest.raises(BrokenOffError):  # inside the second experience
        train(build(model, make(), BreakOff(10)), stream, tmp_path / "parts")
    again = train(build(model, make(), BreakOff()), stream, tmp_path / "parts")
    assert alike(whole, again)
