"""TaskHeads: one tower forward, each sample to its own task's head."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from avalanche_proxyfda import FDAPlugin
from avalanche_proxyfda.metrics import fit_probe
from avalanche_proxyfda.models import TaskHeads, TextHead, TextHeads
from tests.plugins.toys import backbone, learn, strategy, tasks


def model() -> TaskHeads:
    return TaskHeads(nn.Flatten(), 4, [3, 5])


def test_a_mixed_batch_equals_its_parts_and_runs_the_tower_once() -> None:
    heads, images = model(), torch.randn(6, 1, 2, 2)
    tasks = torch.tensor([0, 1, 1, 0, 1, 0])
    calls: list[int] = []
    heads.tower.register_forward_hook(lambda *a: calls.append(1))
    mixed = heads(images, tasks)
    assert calls == [1] and mixed.shape == (6, 5)
    for task, width in ((0, 3), (1, 5)):
        rows = tasks == task
        torch.testing.assert_close(mixed[rows, :width], heads(images[rows], task))
    assert (mixed[tasks == 0, 3:] < -1000).all()
    assert heads(images, torch.zeros(6, dtype=torch.long)).shape == (6, 3)


def test_a_probe_becomes_a_head() -> None:
    heads, images = model(), torch.randn(30, 1, 2, 2)
    labels = torch.arange(30) % 5
    probe = fit_probe(images.flatten(1), labels, 5, 1e-3)
    heads.set_head(1, probe.weight.float(), probe.bias.float())
    torch.testing.assert_close(
        heads(images, 1).double(), probe.logits(images.flatten(1)), rtol=1e-4, atol=1e-4
    )
    with pytest.raises(ValueError, match=r"the head of task 0 has \(3, 4\)"):
        heads.set_head(0, probe.weight.float(), probe.bias.float())


def test_bad_class_counts() -> None:
    with pytest.raises(ValueError, match="classes=0"):
        TaskHeads(nn.Flatten(), 4, [0])


def test_text_heads_answer_by_task_and_are_not_trained() -> None:
    torch.manual_seed(0)
    texts = [TextHead(torch.randn(c, 8), 5.0) for c in (3, 5, 2)]
    made = TaskHeads(nn.Sequential(nn.Flatten(), nn.LazyLinear(8)), 8, [3, 5, 2], TextHeads(texts))
    images = torch.randn(5, 1, 4, 4)
    rows = nn.functional.normalize(made.tower(images), dim=1)
    for task, text in enumerate(texts):
        torch.testing.assert_close(made(images, task), 5.0 * rows @ text.weight.T)
    mixed = made(images, torch.tensor([0, 1, 2, 1, 0]))
    torch.testing.assert_close(mixed[1:2, :5], made(images[1:2], 1))
    with pytest.raises(
        ValueError,
        match="the head of task 1 is a TextHead, and weights are set in a torch",
    ):
        made.set_head(1, torch.zeros(2, 8), torch.zeros(2))
    before = [text.weight.clone() for text in texts]
    own = FDAPlugin(num_neighbors=3, hard_class_batches=False)
    model = TaskHeads(backbone(), 8, [3, 5, 2], TextHeads(texts))
    learn(strategy(model, own), tasks())
    assert str(own.source) == "head:input" and not list(model.head.parameters())
    assert all(torch.equal(a, text.weight) for a, text in zip(before, texts, strict=True))
