"""The terms of the plugins read nothing from the device in a step, and hand it no number."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from avalanche.training.plugins import SupervisedPlugin
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from avalanche_proxyfda import ZSCLPlugin
from avalanche_proxyfda.data.reference import ReferenceData
from avalanche_proxyfda.plugins.base.terms import FiniteWatch
from benchmarks.perf.counting import Operations
from tests.methods import ON_REFERENCE, PLUGINS, toy_plugin
from tests.plugins.test_reference_texts import TOKENS, TwoTowers
from tests.plugins.toys import Plain, classic, strategy

SEEN = tuple(name for name in PLUGINS if name not in ("lp-ft", "wise-ft"))
"""Methods that act in a step."""


class Steps(SupervisedPlugin[Any]):
    """Notes the synchronisations of each iteration, from the batch to the end of the update."""

    def __init__(self, seen: Operations) -> None:
        super().__init__()
        self.seen = seen
        self.noted: list[Counter[str]] = []

    def before_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        self.seen.syncs.clear()

    def after_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        self.noted.append(Counter(self.seen.syncs))


@pytest.fixture
def seen() -> Iterator[Operations]:
    """Counts operations; the steps of optimizers, which read counters of the host, are left out."""
    counter, before = Operations(), []

    def begin(*given: Any) -> None:
        before.append(copy.copy(counter.syncs))

    def end(*given: Any) -> None:
        counter.syncs = before.pop()

    hooks = register_optimizer_step_pre_hook(begin), register_optimizer_step_post_hook(end)
    with counter:
        yield counter
    for hook in hooks:
        hook.remove()


def steps(
    seen: Operations, *plugins: Any, experiences: int = 2, model: Any = None
) -> list[Counter[str]]:
    """Train on experiences of two steps each."""
    noted = Steps(seen)
    trained = strategy(model or Plain(), noted, *plugins, train_mb_size=12)
    for experience in classic(experiences, count=24 * experiences).train_stream:
        trained.train(experience)
    assert len(noted.noted) == 2 * experiences
    return noted.noted


@pytest.mark.filterwarnings("ignore:hard-class batches")
@pytest.mark.parametrize("name", SEEN)
def test_a_step_waits_for_nothing(
    name: str, seen: Operations, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = {"teacher_cache": "off"} if name in ON_REFERENCE else {}  # hits hand numbers over
    plugin = toy_plugin(name, **live)
    monkeypatch.setattr(plugin, "_watch", FiniteWatch(100), raising=False)
    noted = steps(seen, plugin)
    assert noted[1] == noted[3] == Counter()  # the first of an experience may fit the start


def test_a_text_tower_gets_its_token_ids_once_an_experience(
    seen: Operations, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ids that are checked or copied in each step would make the host wait."""
    texts = ReferenceData(list(torch.randn(9, 1, 4, 4)), TOKENS, batch=8)
    plugin = ZSCLPlugin(1e-3, own_texts=True, reference_data=texts, teacher_cache="off")
    monkeypatch.setattr(plugin, "_watch", FiniteWatch(100))
    noted = steps(seen, plugin, model=TwoTowers())
    assert noted[1] == noted[3] == Counter()


def test_an_automatic_weight_waits_for_nothing(
    seen: Operations, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin = toy_plugin("pkt", weight="auto", teacher_cache="off")
    monkeypatch.setattr(plugin, "_watch", FiniteWatch(100))
    noted = steps(seen, plugin)
    assert noted[0] != Counter() == noted[1] == noted[3]  # the first step reads the scale


def test_the_check_of_features_is_seen_on_the_cpu(seen: Operations) -> None:
    """On the CPU the watch reads its note at every step; so the counter sees the plugins."""
    assert steps(seen, toy_plugin("rkd"), experiences=1)[1] == {"_local_scalar_dense": 1}
