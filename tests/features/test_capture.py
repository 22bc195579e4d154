"""Places whose values a later module changes in place are read as they were."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from avalanche_proxyfda import FeatureSource, FeatureTap, FeatureTeacher, find_feature_source
from tests.features.test_features import torchvision_model


@pytest.mark.parametrize(
    ("make", "size"),
    [
        (lambda: torchvision_model("mobilenet_v3_small"), 64),
        (lambda: torchvision_model("efficientnet_b0"), 64),
        (lambda: torchvision_model("mnasnet0_5"), 64),
    ],
    ids=["mobilenet_v3", "efficientnet", "mnasnet"],
)
def test_dropout_in_place_after_the_embedding_does_not_reach_it(make: Any, size: int) -> None:
    model = make().train()
    source, images = find_feature_source(model), torch.randn(4, 3, size, size)
    tap = FeatureTap((source,))
    tap.attach(model)
    kept: list[Tensor] = []
    before = source.find(model).register_forward_pre_hook(lambda m, a: kept.append(a[0].clone()))
    for _ in range(3):
        tap.arm()
        model(images)
        rows = tap.take()[source]
        assert torch.equal(rows, kept[-1])
        rows.sum().backward()
    before.remove()
    assert next(model.parameters()).grad is not None


def test_places_changed_in_place_are_copied_for_the_teacher_too() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(inplace=True), nn.Linear(4, 2))
    places, images = (FeatureSource("0"), FeatureSource("2")), torch.randn(3, 4)
    student = FeatureTap(places)
    student.attach(model)
    student.arm()
    expected = model[0](images).detach()
    student.arm()
    model(images)
    teacher = FeatureTeacher(model, places)
    for values in (student.take(), teacher.values(images), teacher.values(images.clone())):
        torch.testing.assert_close(values[places[0]].detach(), expected)


@pytest.mark.parametrize("compiled", [False, True])
def test_the_first_of_several_outputs_is_copied_too(compiled: bool) -> None:
    class Pair(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, None]:
            return x * 1, None

    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pair, self.act = Pair(), nn.ReLU(inplace=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.act(self.pair(x)[0])

    torch.compiler.reset()
    model, source = Odd(), FeatureSource("pair")
    tap = FeatureTap((source,))
    tap.attach(model)
    run = torch.compile(model, backend="aot_eager") if compiled else model
    for _ in range(3):
        images = torch.randn(3, 4, requires_grad=True)
        tap.arm()
        run(images)
        assert torch.equal(tap.take()[source][0], images)
    torch.compiler.reset()
