"""A plugin whose term has no effect says so, and a method's wrong result is named."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from avalanche_proxyfda import FDAPlugin, PKTPlugin
from avalanche_proxyfda.plugins.base.embedding import EmbeddingPlugin
from tests.checkpoint.training import build
from tests.plugins.toys import CLASSES, Plain, classic


class WithoutNorm(nn.Module):
    """A network that also trains on one image."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Flatten(), nn.Linear(16, 8))
        self.classifier = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.backbone(x))
        return logits


def learn(model: Any, plugin: Any, size: int = 30, **options: Any) -> Any:
    strategy = build(model, plugin, train_mb_size=size, train_epochs=1, **options)
    for experience in classic(2, count=60).train_stream:
        strategy.train(experience, eval_streams=[])
    return strategy


def test_batches_of_one_sample_are_named_with_the_remedy() -> None:
    plugin = PKTPlugin(1.0)
    words = r"PKT compares the samples of a batch .* train_mb_size=1 gives batches of 1: .*=64"
    with pytest.warns(UserWarning, match=words) as caught:
        learn(WithoutNorm, plugin, size=1)
    assert plugin.skipped == 60 and sum("compares the" in str(w.message) for w in caught) == 1


def test_a_small_last_batch_is_not_mentioned() -> None:
    plugin = PKTPlugin(1.0)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "PKT compares")
        learn(WithoutNorm, plugin, size=29)
    assert plugin.skipped == 2


def test_balanced_batches_that_outgrow_the_batch_size_are_named() -> None:
    words = r"train_mb_size=1 has no room for two classes, so batches have 2 samples .*: give 64"
    with pytest.warns(UserWarning, match=words) as caught:
        learn(Plain, FDAPlugin(1.0, num_neighbors=1), size=1)
    assert sum("no room for two" in str(w.message) for w in caught) == 1


class Detached(Plain):
    """Detaches the features of its head."""

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.backbone(x).detach())
        return logits


class Frozen(Plain):
    """Trains its head alone."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone.requires_grad_(False)


@pytest.mark.parametrize("model", [Detached, Frozen])
def test_features_without_a_gradient_are_named(model: type[nn.Module]) -> None:
    words = "the features that PKT reads have no gradient, so its term changes no weight"
    with pytest.warns(UserWarning, match=words) as caught:
        learn(model, PKTPlugin(1.0))
    assert sum("have no gradient" in str(w.message) for w in caught) == 1
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "the features that")
        learn(Plain, PKTPlugin(1.0))


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (lambda value: value, r"Mine\.compare returned a Tensor: return \{\"name\": \(factor"),
        (lambda value: {"x": value}, r"returned 'x' with a Tensor of shape \[\] without a factor"),
        (lambda value: {"x": (1.0, value.expand(3))}, r"'x' with a Tensor of shape \[3\] as its"),
        (lambda value: {"x": (1.0, 0.5)}, r"returned 'x' with a float as its value"),
    ],
)
def test_a_wrong_result_of_a_method_is_named(result: Any, words: str) -> None:
    class Mine(EmbeddingPlugin):
        def compare(self, student: Tensor, teacher: Tensor) -> Any:
            return result((student - teacher).square().mean())

    with pytest.raises(TypeError, match=words):
        learn(Plain, Mine(1.0))


def test_a_right_result_of_a_method_trains() -> None:
    class Mine(EmbeddingPlugin):
        def compare(self, student: Tensor, teacher: Tensor) -> Any:
            return {"x": (1.0, (student - teacher).square().mean())}

    strategy = learn(Plain, Mine(1.0))
    assert torch.isfinite(strategy.loss)
