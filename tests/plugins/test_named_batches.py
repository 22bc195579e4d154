"""The names of samples stay with a batch that is copied for a look ahead, or chosen from."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from avalanche.training.plugins import SupervisedPlugin
from torch import Tensor

from avalanche_proxyfda import EfficientNaive
from avalanche_proxyfda.teacher.cache import planning
from avalanche_proxyfda.teacher.cache.batch import MarkedBatch
from tests.methods import toy_plugin
from tests.plugins.toys import Plain, classic, strategy

KINDS: dict[str, dict[str, Any]] = {
    "accumulated": {"graph_from": "accumulated", "hard_class_batches": False},
    "online": {"mining": "online", "classes_per_batch": 2},
}


@pytest.fixture(autouse=True)
def as_on_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse to name images in a step: names come from the loader, as on a device."""

    def refuse(images: Tensor, tasks: Tensor | None = None) -> list[bytes]:
        raise AssertionError("the batch has lost its names")

    monkeypatch.setattr(planning, "pixel_names", refuse)


@pytest.mark.parametrize("choice", ["exact", "clean"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_cached_teacher_knows_every_batch(kind: str, choice: str) -> None:
    own = toy_plugin("fda", teacher_cache=choice, **KINDS[kind])
    more = {"accumulate": 2} if kind == "accumulated" else {}
    made = strategy(Plain(dropout=0), own, kind=EfficientNaive, train_epochs=3, **more)
    made.train(classic(1).train_stream[0], eval_streams=[])
    assert own.cache_hits >= own.cache_lookups * (1 if choice == "clean" else 2 / 3) > 0


def test_a_changed_batch_is_chosen_from_without_names() -> None:
    """A plugin that changes candidates in place leaves no names of other images."""

    class Brighter(SupervisedPlugin[Any]):
        def before_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
            strategy.mbatch[0].add_(1)

    own = toy_plugin("fda", teacher_cache="exact", **KINDS["online"])
    made = strategy(Plain(), Brighter(), own, train_epochs=2)
    with pytest.raises(AssertionError, match="has lost its names"):
        made.train(classic(1).train_stream[0], eval_streams=[])


def test_a_copy_is_moved_without_the_original() -> None:
    images = torch.rand(2, 3)
    batch = MarkedBatch([images, torch.arange(2)], [b"a" * 16, b"b" * 16])
    twin = batch.copy()
    twin[0] = images.to("meta")
    assert twin.names_of(twin[0]) == batch.names and batch[0] is images
    twin[0] = torch.empty(2, 3, device="meta")
    assert twin.names_of(twin[0]) is None
