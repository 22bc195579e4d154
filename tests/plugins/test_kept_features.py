"""Features that outlive a forward, of models that write them to one memory as CUDA graphs do."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from avalanche_proxyfda import EfficientNaive, FeatureSource, FeatureTeacher, RKDPlugin
from avalanche_proxyfda.data.reference import ReferenceData
from avalanche_proxyfda.features.passes import on_host
from avalanche_proxyfda.models.text_tower import TextTower
from avalanche_proxyfda.teacher import CachedTeacher
from avalanche_proxyfda.teacher.cache import CacheSettings
from avalanche_proxyfda.teacher.reference import ReferenceAnswers
from tests.methods import toy_plugin
from tests.plugins.test_reference_texts import TOKENS, Logits, TwoTowers
from tests.plugins.toys import Plain, classic, same, strategy


class Memory:
    """The memory of all graphs of a process; copies of a model write to it too."""

    def __init__(self) -> None:
        self.tensor = torch.zeros(4096)

    def __deepcopy__(self, memo: Any) -> Memory:
        return self

    def written(self, rows: Tensor) -> Tensor:
        """Return the rows in this memory; a forward with gradient has memory of its own."""
        if torch.is_grad_enabled():
            return rows
        return self.tensor[: rows.numel()].view_as(rows).copy_(rows)


class Graphed(nn.Module):
    """Writes features to the memory, if there is one."""

    def __init__(self, memory: Memory | None) -> None:
        super().__init__()
        self.memory = memory

    def forward(self, rows: Tensor) -> Tensor:
        return rows.clone() if self.memory is None else self.memory.written(rows)


class GraphedText(TextTower):
    """A text tower that writes features to the memory of the model."""

    memory: Memory | None = None

    def forward(self, ids: Tensor) -> Tensor:
        rows = super().forward(ids)
        return rows if self.memory is None else self.memory.written(rows)


def weights(own: Any, graphed: bool, kind: Any = None, **options: Any) -> dict[str, Tensor]:
    """Train two experiences, and return the weights."""
    model = Plain()
    model.backbone.append(Graphed(Memory() if graphed else None))
    torch.manual_seed(0)
    given = {"train_epochs": 2, "train_mb_size": 12, **options}
    made = strategy(model, own, **({} if kind is None else {"kind": kind}), **given)
    for experience in classic(2).train_stream:
        made.train(experience, eval_streams=[])
    return made.model.state_dict()


def accumulated() -> dict[str, Any]:
    return {"kind": EfficientNaive, "accumulate": 2}


@pytest.mark.parametrize("method", ["rkd", "fda", "proxy-fda"])
def test_the_look_ahead_keeps_the_features_of_each_micro_batch(method: str) -> None:
    found = [
        weights(toy_plugin(method, graph_from="accumulated"), graphed, **accumulated())
        for graphed in (True, False)
    ]
    assert same(*found)


@pytest.mark.parametrize("mining", ["online", "bank", "prototypes"])
def test_mining_keeps_the_features_of_the_student(mining: Any) -> None:
    options = {"classes_per_batch": 2, "mining": mining, "teacher_cache": "off"}
    assert same(*(weights(toy_plugin("fda", **options), graphed) for graphed in (True, False)))


@pytest.mark.parametrize("choice", ["exact", "clean"])
def test_the_probe_of_a_cache_keeps_its_values(choice: Any) -> None:
    assert same(*(weights(RKDPlugin(teacher_cache=choice), graphed) for graphed in (True, False)))


@pytest.mark.parametrize("has_read", [False, True])
def test_the_values_of_reference_images_are_kept_over_the_check(has_read: bool) -> None:
    """From its second forward on, a teacher copies no value on its own."""
    found, images = [], torch.randn(16, 1, 4, 4, generator=torch.Generator().manual_seed(5))
    for memory in (Memory(), None):
        model = Plain(dropout=0.0)
        model.backbone.append(Graphed(memory))
        teacher = CachedTeacher(FeatureTeacher(model, [FeatureSource("backbone")]))
        if has_read:
            teacher.live(images[:3], None, None)
        data = ReferenceData(images, batch=8)
        answers = ReferenceAnswers(teacher, data, CacheSettings("exact"))
        for step in range(4):
            batch = data.batch_of(0, step, torch.device("cpu"))
            found.append(answers.values(batch, None)[FeatureSource("backbone")].clone())
    assert all(torch.equal(*pair) for pair in zip(found[:4], found[4:], strict=True))


def test_text_features_are_kept_for_an_experience() -> None:
    ends = []
    images = torch.randn(9, 1, 4, 4, generator=torch.Generator().manual_seed(5))
    for graphed in (True, False):
        model = TwoTowers(trained=False)
        model.text.__class__ = GraphedText
        model.text.memory = Memory() if graphed else None
        model.backbone.append(Graphed(model.text.memory))
        own = Logits(reference_data=ReferenceData(images, TOKENS, batch=8), teacher_cache="off")
        made = strategy(model, own)
        for experience in classic(2).train_stream:
            made.train(experience, eval_streams=[])
        ends.append([b for seen in own.seen for b in (seen.student_texts, seen.teacher_texts)])
    for one, other in zip(*ends, strict=True):
        assert torch.equal(one, other)


def test_a_pass_keeps_the_features_of_each_batch() -> None:
    memory, batches = Memory(), torch.randn(23, 5).split(4)
    with torch.no_grad():
        assert torch.equal(on_host(map(memory.written, batches)), torch.cat(batches))
