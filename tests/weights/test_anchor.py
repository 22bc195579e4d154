"""The encoder's weights in real models; anchors and their shapes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from avalanche_proxyfda import FeatureSource, find_feature_source
from avalanche_proxyfda.models import TaskHeads
from avalanche_proxyfda.plugins.base.heads import last_linear
from avalanche_proxyfda.weights import WeightAnchor, encoder_names
from tests.features.test_features import open_clip_tower, timm_model, torchvision_model
from tests.plugins.toys import Growing, Multi, Plain, backbone

HEADS: dict[str, tuple[Any, set[str]]] = {
    "static": (Plain, {"classifier.weight", "classifier.bias"}),
    "growing": (Growing, {"classifier.classifier.weight", "classifier.classifier.bias"}),
    "multi": (Multi, {f"classifier.classifiers.0.classifier.{k}" for k in ("weight", "bias")}),
    "ours": (
        lambda: TaskHeads(backbone(), 8, [3, 5]),
        {f"head.heads.{t}.{k}" for t in (0, 1) for k in ("weight", "bias")},
    ),
    "tower, head": (
        lambda: nn.Sequential(open_clip_tower("vit").visual, nn.Linear(12, 3)),
        {"1.weight", "1.bias"},
    ),
    "tower, growing": (
        lambda: nn.Sequential(open_clip_tower("vit").visual, Growing().classifier),
        {"1.classifier.weight", "1.classifier.bias"},
    ),
    "resnet18": (lambda: torchvision_model("resnet18"), {"fc.weight", "fc.bias"}),
    "mobilenet_v2": (
        lambda: torchvision_model("mobilenet_v2"),
        {"classifier.1.weight", "classifier.1.bias"},
    ),
    "mobilenet_v3": (
        lambda: torchvision_model("mobilenet_v3_small"),
        {"classifier.3.weight", "classifier.3.bias"},
    ),
    "convnext": (
        lambda: torchvision_model("convnext_tiny"),
        {"classifier.2.weight", "classifier.2.bias"},
    ),
    "timm vit": (lambda: timm_model("vit_tiny_patch16_224"), {"head.weight", "head.bias"}),
    "timm convnext": (lambda: timm_model("convnext_atto"), {"head.fc.weight", "head.fc.bias"}),
}


@pytest.mark.parametrize("name", HEADS)
def test_the_head_is_what_comes_after_the_embedding(name: str) -> None:
    make, head = HEADS[name]
    model = make()
    names = encoder_names(model, find_feature_source(model))
    assert {n for n, _ in model.named_parameters()} - set(names) == head


@pytest.mark.parametrize("name", ["layer4", "avgpool"])
def test_a_named_inner_module_ends_the_encoder(name: str) -> None:
    model = torchvision_model("resnet18")
    names = encoder_names(model, FeatureSource(name))
    assert {n for n, _ in model.named_parameters()} - set(names) == {"fc.weight", "fc.bias"}
    body = encoder_names(Plain(), FeatureSource("backbone.2"))
    kept = [n for n in body if "classifier" not in n]
    assert body == kept and len(body) == 4  # a linear layer and a batch normalisation


class Stacked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = torchvision_model("resnet18")
        self.classifier = nn.Linear(5, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.backbone(x))


@pytest.mark.parametrize(
    ("make", "source", "head"),
    [
        (Stacked, "backbone", "classifier"),
        (lambda: nn.Sequential(timm_model("resnet10t"), nn.Linear(5, 3)), "0", "1"),
        (lambda: nn.Sequential(torchvision_model("resnet18"), nn.Softmax(1)), "0.fc:input", "0.fc"),
    ],
)
def test_the_classifier_of_a_backbone_is_not_the_head_if_layers_follow(
    make: Any, source: str, head: str
) -> None:
    model = make()
    found = find_feature_source(model)
    assert str(found) == source and last_linear(model, 0, found) == head
    rest = {n for n, _ in model.named_parameters()} - set(encoder_names(model, found))
    assert rest == {f"{head}.weight", f"{head}.bias"}


def test_a_head_that_is_registered_first_is_a_head() -> None:
    class HeadFirst(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))
            self.classifier = nn.Linear(8, 3)
            self.stem, self.backbone = nn.Linear(16, 16), backbone()

    names = encoder_names(HeadFirst(), FeatureSource("backbone"))
    assert "stem.weight" in names and "backbone.5.weight" in names and "scale" in names
    assert not [n for n in names if n.startswith("classifier")]


def test_of_a_whole_clip_the_image_tower_is_the_encoder() -> None:
    clip = open_clip_tower("vit")
    names = encoder_names(clip, find_feature_source(clip))
    assert names and all(n.startswith("visual.") for n in names)


def test_a_named_module_that_is_not_there() -> None:
    with pytest.raises(ValueError, match="'backbon' is not a module of Plain; near names: backbon"):
        encoder_names(Plain(), FeatureSource("backbon"))


def test_anchors_are_copies_of_weights_and_buffers() -> None:
    model = Plain()
    anchor = WeightAnchor.of(model, model.state_dict())
    assert set(anchor.tensors) == set(model.state_dict())
    before = {k: v.clone() for k, v in anchor.tensors.items()}
    model(torch.randn(8, 1, 4, 4))
    with torch.no_grad():
        model.backbone[1].weight.add_(1)
    assert all(torch.equal(anchor.tensors[k], before[k]) for k in before)
    assert not torch.equal(before["backbone.2.running_mean"], model.backbone[2].running_mean)


def test_shapes_that_do_not_fit_are_all_named() -> None:
    anchor, model = WeightAnchor.of(Plain(), Plain().state_dict()), Plain()
    model.backbone[1] = nn.Linear(16, 13)
    with pytest.raises(ValueError, match=r"backbone.1.weight: \(12, 16\), .* is \(13, 16\); backb"):
        anchor.matched(model, ["backbone.1.weight", "backbone.1.bias", "backbone.5.bias"])
    assert anchor.matched(model, ["backbone.5.bias", "new.bias"]) == ["backbone.5.bias"]


def test_an_anchored_weight_that_the_model_lacks_is_named() -> None:
    anchor = WeightAnchor({"x": torch.zeros(2), "y": torch.zeros(2), "bias": torch.zeros(2)})
    words = "anchors of x, y, which Linear lacks: take the names from the model"
    with pytest.raises(ValueError, match=words):
        anchor.matched(nn.Linear(3, 2), ["x", "weight", "y", "bias"])
    assert anchor.matched(nn.Linear(3, 2), ["weight", "bias", "z"]) == ["bias"]


def test_an_anchor_of_tensors_that_the_model_lacks_is_refused() -> None:
    words = "names holds x, y, which Linear lacks: give names of its parameters and buffers"
    with pytest.raises(KeyError, match=words):
        WeightAnchor.of(nn.Linear(3, 2), iter(["weight", "x", "y"]))
