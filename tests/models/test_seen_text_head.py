"""The head of a union: all classes in evaluation, the classes so far in training."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from avalanche.models.utils import avalanche_model_adaptation
from torch import nn

from avalanche_proxyfda.models import SeenTextHead, TextHead
from benchmarks.models import build


def experience(*classes: int) -> Any:
    return SimpleNamespace(classes_in_this_experience=list(classes))


def test_training_sees_the_classes_so_far_and_evaluation_all() -> None:
    text = TextHead(torch.randn(6, 4), 7.0)
    head, x = SeenTextHead(text), torch.randn(3, 4)
    model = nn.Sequential(nn.Identity(), head)
    for classes, count in (([0, 1], 2), ([1, 2, 3], 4), ([0], 4)):
        avalanche_model_adaptation(model.train(), experience(*classes))
        torch.testing.assert_close(model(x), text(x)[:, :count])
        avalanche_model_adaptation(model.eval(), experience(5))  # a test experience adds none
        assert torch.equal(model(x), text(x))
        assert model.train()(x).shape == (3, count)
    assert not list(model.parameters())


def test_the_number_of_classes_is_part_of_the_state() -> None:
    head = SeenTextHead(TextHead(torch.randn(6, 4)))
    head.adaptation(experience(0, 1, 2))
    again = SeenTextHead(TextHead(torch.randn(6, 4)))
    again.load_state_dict(head.state_dict())
    x = torch.randn(2, 4)
    for other in (again, copy.deepcopy(head)):
        assert torch.equal(other(x), head(x)) and other(x).shape == (2, 3)


def test_training_has_the_texts_of_training() -> None:
    sets = [TextHead(torch.randn(c, 4), 7.0, torch.randn(c, 4)) for c in (2, 3)]
    model: Any = build._with_union(nn.Identity(), sets)
    x = torch.randn(3, 4)
    model.head.adaptation(experience(0, 1, 2))
    expected = torch.cat([text(x) for text in sets], dim=1)
    torch.testing.assert_close(model(x), expected[:, :3])
    assert model.head.trains_on_other_texts
    expected = torch.cat([text.eval()(x) for text in sets], dim=1)
    torch.testing.assert_close(model.eval()(x), expected)
    single = SeenTextHead(TextHead(torch.eye(2)))
    assert not single.trains_on_other_texts and list(single.state_dict()) == [
        "weight",
        "scale",
        "seen",
    ]


def test_a_label_beyond_the_texts_is_refused() -> None:
    with pytest.raises(ValueError, match="label 6, the head has 6 classes"):
        SeenTextHead(TextHead(torch.randn(6, 4))).adaptation(experience(6))


def test_later_classes_change_no_bit_of_a_step() -> None:
    weight, x = torch.randn(9, 4), torch.randn(5, 4)
    gradients = []
    for classes in (3, 9):
        head = SeenTextHead(TextHead(weight[:classes]))
        head.adaptation(experience(0, 1, 2))
        rows = x.clone().requires_grad_()
        nn.functional.cross_entropy(head(rows), torch.tensor([0, 1, 2, 0, 1])).backward()
        gradients.append(rows.grad)
    assert torch.equal(*gradients)
