"""How often the host waits for the device: in steps that cannot avoid it, and after an epoch."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from avalanche.training.plugins import SupervisedPlugin

from avalanche_proxyfda import EfficientNaive
from avalanche_proxyfda.models import TextTower, trained_text_head
from tests.methods import toy_plugin
from tests.models.small_texts import NAMES, PROMPTS, small_clip, tokenize
from tests.plugins.toys import classic, strategy
from tests.second_device import device as counts
from tests.second_device.checks_plugins import SIZES, still


class CountWaits(SupervisedPlugin[Any]):
    """Counts the waits from the second step of an epoch on, and those after its last step."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[Counter[str]] = []
        self.ends: list[Counter[str]] = []
        self._forwards = 0
        self._before: Counter[str] = Counter()
        self._trained: Counter[str] = Counter()

    def before_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
        self._forwards = 0

    def before_forward(self, strategy: Any, **kwargs: Any) -> None:
        if self._forwards > 1:
            self.steps.append(counts.waits() - self._before)
        self._before = counts.waits()
        self._forwards += 1

    def after_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        self._trained = counts.waits()

    def after_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
        self.ends.append(counts.waits() - self._trained)


def counted(own: Any, second: torch.device, **options: Any) -> CountWaits:
    """Train two experiences of two epochs of four steps."""
    look = CountWaits()
    options = {"train_epochs": 2, **SIZES, **options}
    made = strategy(still(), own, look, device=second, **options)
    for experience in classic(count=96).train_stream:
        made.train(experience, eval_streams=[], pin_memory=True)
    assert len(look.steps) == 8 and len(look.ends) == 4
    return look


@pytest.mark.filterwarnings("ignore:An output with one or more elements was resized")
def test_a_step_in_fp16_waits_once(second: torch.device) -> None:
    """The gradient scaler must know whether a gradient was finite."""
    look = counted(toy_plugin("pkt"), second, kind=EfficientNaive, precision="fp16")
    assert [sum(each.values()) for each in look.steps] == [1] * 8, look.steps


def test_a_step_of_online_mining_waits_once(second: torch.device) -> None:
    """The host must know which classes were chosen."""
    look = counted(toy_plugin("fda-online", teacher_cache="exact"), second)
    assert [sum(each.values()) for each in look.steps] == [1] * 8, look.steps


@pytest.mark.parametrize("name", ["fda", "proxy-fda", "soft-fda", "ldifs"])
def test_an_epoch_ends_with_few_waits(name: str, second: torch.device) -> None:
    """All terms are read at once, so the number of terms does not matter."""
    look = counted(toy_plugin(name, teacher_cache="exact"), second)
    assert all(sum(each.values()) <= 4 for each in look.ends), look.ends


def test_a_head_with_the_classes_of_an_experience_waits_never(second: torch.device) -> None:
    text = TextTower(small_clip()).to(second)
    head = trained_text_head(text, tokenize, NAMES, PROMPTS, by_experience=True).to(second)
    head.train()
    head.adaptation(SimpleNamespace(classes_in_this_experience=[1, 4]))
    rows = torch.randn(3, 8, device=second, requires_grad=True)
    with counts.waits_refused():
        head(rows).sum().backward()
