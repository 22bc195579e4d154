"""A zero-shot head with other texts in training than in evaluation."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from avalanche_proxyfda import LwFPlugin
from avalanche_proxyfda.models import TaskHeads, TextHead, TextHeads, text_head
from benchmarks.models import tiny_clip
from tests.plugins.toys import backbone, learn, strategy, tasks

WEIGHT, OTHER, ROWS = (
    torch.randn(3, 4, generator=torch.Generator().manual_seed(k)) for k in range(3)
)


def test_the_mode_chooses_the_texts() -> None:
    head = TextHead(WEIGHT, 10.0, OTHER)
    assert torch.equal(head(ROWS), TextHead(OTHER, 10.0)(ROWS))
    assert torch.equal(head.eval()(ROWS), TextHead(WEIGHT, 10.0)(ROWS))
    assert not torch.equal(head(ROWS), head.train()(ROWS))
    single = TextHead(WEIGHT)
    assert torch.equal(single(ROWS), single.eval()(ROWS))
    assert list(single.state_dict()) == ["weight", "scale"]  # as before there was a choice
    assert list(head.state_dict()) == ["weight", "scale", "train_weight"]
    assert not list(head.parameters())


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (torch.ones(2, 4), r"train_weight has shape \(2, 4\), weight has \(3, 4\)"),
        (torch.zeros(3, 4), "train_weight has a row that is zero"),
        (torch.ones(3, 4, dtype=torch.long), "train_weight has shape .* of torch.int64"),
    ],
)
def test_other_texts_are_refused(other: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        TextHead(WEIGHT, train_weight=other)


def test_texts_of_training_come_from_their_own_templates() -> None:
    clip, names, one = tiny_clip.load(), ["red", "blue"], ["a photo of a {}."]
    head = text_head(clip, tiny_clip.tokenize, names, train_templates=one)
    assert torch.equal(head.weight, text_head(clip, tiny_clip.tokenize, names).weight)
    single = text_head(clip, tiny_clip.tokenize, names, one)
    assert head.train_weight is not None and torch.equal(head.train_weight, single.weight)
    assert not torch.equal(head.weight, head.train_weight)
    for wrong in ([], ["a photo"]):
        with pytest.raises(ValueError, match=r"train_templates[=:]"):
            text_head(clip, tiny_clip.tokenize, names, train_templates=wrong)


def test_the_logits_of_a_teacher_come_from_the_students_texts() -> None:
    """With a student that does not move, the distillation is zero and stays zero."""
    torch.manual_seed(0)
    texts = [TextHead(torch.randn(c, 8), 5.0, torch.randn(c, 8)) for c in (3, 5)]
    tower = nn.Sequential(*backbone(dropout=0.0)[:2], nn.Tanh(), nn.Linear(12, 8))
    model = TaskHeads(tower, 8, [3, 5], TextHeads(texts))
    own = LwFPlugin(teacher_cache="off")
    trained = strategy(model, own)
    trained.optimizer.param_groups[0]["lr"] = 0.0
    learn(trained, tasks())
    (values,) = (
        values
        for name, (_, values) in trained.evaluator.get_all_metrics().items()
        if "LwF_distillation" in name
    )
    assert own.teacher_forwards > 0 and max(values) < 1e-6
