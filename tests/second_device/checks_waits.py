"""Host waits of training steps and of the ends of epochs, where a step may wait or once did."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from avalanche.training.plugins import SupervisedPlugin

from avalanche_proxyfda import EfficientNaive
from avalanche_proxyfda.models import TextTower, TwoTowers, trained_text_head
from tests.methods import accepted, toy_plugin
from tests.models.small_texts import NAMES, PROMPTS, small_clip, tokenize
from tests.plugins.toys import classic, strategy
from tests.second_device import device as counts
from tests.second_device.checks_plugins import SIZES, still


class CountWaits(SupervisedPlugin[Any]):
    """Counts the waits of each step after the first of an epoch, and of each end of an epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[int] = []
        self.ends: list[int] = []
        self._before: int | None = None

    def before_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
        self._before = None

    def after_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        now = sum(counts.waits().values())
        if self._before is not None:
            self.steps.append(now - self._before)
        self._before = now

    def after_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
        assert self._before is not None
        self.ends.append(sum(counts.waits().values()) - self._before)


def waits_of(own: Any, second: torch.device, **options: Any) -> CountWaits:
    """Train two epochs on each of two experiences, and return the waits.

    Args:
        own: a plugin, or a list of plugins.
        second: the device.
        options: arguments of the strategy.
    """
    look, plugins = CountWaits(), own if isinstance(own, list) else [own]
    made = strategy(
        still(), *plugins, look, device=second, **{**SIZES, "train_epochs": 2, **options}
    )
    for experience in classic(count=96).train_stream:
        made.train(experience, eval_streams=[], pin_memory=True)
    assert len(look.steps) >= 12 and len(look.ends) == 4
    return look


@pytest.mark.parametrize("method", ["ldifs", "proxy-fda"])
def test_a_step_in_fp16_waits_once(method: str, second: torch.device) -> None:
    """The host reads the loss scale after the step, and keeps the scale for the next step."""
    own = toy_plugin(method, **accepted(method, teacher_cache="exact"))
    look = waits_of(own, second, kind=EfficientNaive, precision="fp16")
    assert set(look.steps) == {1}


@pytest.mark.filterwarnings("ignore:An output with one or more elements was resized")
@pytest.mark.parametrize("cache", ["off", "exact"])
def test_a_step_that_mines_its_classes_waits_once(cache: str, second: torch.device) -> None:
    """The host reads the numbers of the chosen classes."""
    look = waits_of(toy_plugin("fda-online", teacher_cache=cache), second)
    assert set(look.steps) == {1}


def test_a_step_with_the_texts_of_an_experience_does_not_wait(second: torch.device) -> None:
    clip = small_clip()
    head = trained_text_head(TextTower(clip), tokenize, NAMES, PROMPTS, by_experience=True)
    model: Any = TwoTowers(clip.visual, head).train()
    model.head.adaptation(SimpleNamespace(classes_in_this_experience=[1, 4]))
    model.to(second)  # the head follows its device, also after the adaptation
    images, labels = torch.randn(3, 3, 8, 8, device=second), torch.ones(3, device=second).long()
    model(images)
    model.head.adaptation(SimpleNamespace(classes_in_this_experience=[3, 0, 1]))
    counts.reset()
    with counts.waits_refused():
        logits = model(images)
        torch.nn.functional.cross_entropy(logits, labels).backward()
    assert not counts.waits()
    absent = [k for k in range(logits.shape[1]) if k not in (0, 1, 3)]
    assert absent and bool((logits.detach().cpu()[:, absent] == -1e4).all())
    model.cpu()
    torch.testing.assert_close(model(images.cpu()), logits.cpu())


@pytest.mark.parametrize("weight", ["number", "auto"])
@pytest.mark.parametrize("method", ["ldifs", "rift", "fda", "proxy-fda", "rkd"])
def test_an_epoch_ends_with_one_wait_for_each_log(
    method: str, weight: str, second: torch.device
) -> None:
    """One wait each for the NaN check, the cache's check, the task's loss and all terms.

    An automatic weight adds its own log. The number of terms adds nothing.
    """
    options: dict[str, Any] = {"strength": "auto"} if weight == "auto" else {}
    own = toy_plugin(method, teacher_cache="exact", **options)
    look = waits_of(own, second)
    assert set(look.ends) == {5 if weight == "auto" else 4}
    assert set(look.steps) == {0}
