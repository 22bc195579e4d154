"""A checkpoint is refused by a model of other shapes; heads that grow are not."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from avalanche.models import IncrementalClassifier
from torch import nn
from torchvision.models import resnet18

from avalanche_proxyfda.checkpoint import CheckpointError, Checkpoints
from tests.checkpoint.training import build, train
from tests.plugins.toys import Growing, classic, same


class Own(nn.Module):
    """A head of a user's own that a script grows."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.layer = nn.Linear(5, rows)


def chain(width: int = 5, classes: int = 4) -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, width, 2), nn.Flatten(), nn.Linear(9 * width, classes))


@pytest.mark.parametrize(
    ("saved", "here", "words"),
    [
        (chain, lambda: chain(classes=7), r"'2.weight' has the shape \(4, 45\) .* \(7, 45\) here"),
        (lambda: chain(classes=7), chain, r"'2.weight' has the shape \(7, 45\) .* \(4, 45\) here"),
        (chain, lambda: chain(width=6), r"'0.weight' has the shape \(5, 1, 2, 2\)"),
        (
            lambda: IncrementalClassifier(5),
            lambda: IncrementalClassifier(6),
            r"\(2, 5\) .*\(2, 6\)",
        ),
        (
            lambda: nn.Sequential(resnet18(num_classes=4)),
            lambda: nn.Sequential(resnet18(num_classes=7)),
            r"'0.fc.weight' has the shape \(4, 512\)",
        ),
        (
            lambda: nn.Linear(5, 3),
            lambda: nn.Linear(5, 4),
            r"'weight' .*: build the model as before",
        ),
    ],
    ids=[
        "more classes",
        "fewer classes",
        "another width",
        "a growing head's width",
        "wrapped",
        "a layer alone",
    ],
)
def test_another_shape_is_refused_and_nothing_is_changed(
    saved: Callable[[], nn.Module], here: Callable[[], nn.Module], words: str, tmp_path: Path
) -> None:
    one, other = build(saved), build(here)
    Checkpoints(one, tmp_path).save()
    before = copy.deepcopy(other.model)
    with pytest.raises(CheckpointError, match=words):
        Checkpoints(other, tmp_path).resume()
    assert same(before.state_dict(), other.model.state_dict())
    assert repr(before) == repr(other.model)


@pytest.mark.parametrize(("first", "then"), [(3, 5), (5, 3)])
def test_the_rows_of_a_users_own_module_may_differ(first: int, then: int, tmp_path: Path) -> None:
    strategies = [build(lambda n=n: nn.Sequential(Own(n))) for n in (first, then)]
    Checkpoints(strategies[0], tmp_path).save()
    assert Checkpoints(strategies[1], tmp_path).resume() is not None
    assert same(*(s.model.state_dict() for s in strategies))


def test_a_growing_head_comes_back_in_its_size(tmp_path: Path) -> None:
    trained: Any = train(build(Growing), classic(2, count=60), tmp_path)
    again = build(Growing)
    assert len(again.model.classifier.classifier.weight) == 2
    assert Checkpoints(again, tmp_path).resume() is not None
    assert same(trained.model.state_dict(), again.model.state_dict())
    assert torch.equal(trained.model.classifier.active_units, again.model.classifier.active_units)
