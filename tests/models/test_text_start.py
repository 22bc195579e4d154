"""Linear heads that start as zero-shot heads: their logits, their growth, their training."""

from __future__ import annotations

import copy
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from avalanche_proxyfda.checkpoint.modules import load_module_state, module_state
from avalanche_proxyfda.features.presets import find_feature_source
from avalanche_proxyfda.models import GrowingTextHead, TextHead, UnitLinear, start_from_texts
from tests.plugins.toys import CLASSES, backbone, classic, learn, strategy


def texts(classes: int = CLASSES, width: int = 8, scale: float = 20.0) -> TextHead:
    torch.manual_seed(5)
    return TextHead(torch.randn(classes, width), scale)


def cosines(rows: Tensor, text: TextHead) -> np.ndarray[Any, Any]:
    """Scale times cosine, image by image and class by class, in float64."""
    made = np.empty((len(rows), len(text.weight)))
    for i, row in enumerate(rows.double().numpy()):
        for j, word in enumerate(text.weight.double().numpy()):
            length = float(row @ row) ** 0.5 * float(word @ word) ** 0.5
            made[i, j] = float(text.scale) * float(row @ word) / length
    return made


def test_the_logits_are_scaled_cosines() -> None:
    text, rows = texts(), 7 * torch.randn(5, 8)
    for layer in (UnitLinear(8, CLASSES), UnitLinear(8, CLASSES, bias=False)):
        start_from_texts(layer, text)
        np.testing.assert_allclose(layer(rows).detach(), cosines(rows, text), rtol=1e-5, atol=1e-4)
        assert all(p.requires_grad for p in layer.parameters())
    whole = UnitLinear(8, CLASSES)
    before = whole.weight.detach().clone()
    start_from_texts(whole, text, first=4)
    assert torch.equal(whole.weight[:4], before[:4])
    assert torch.equal(whole.weight[4:], text.scale * text.weight[4:])
    assert whole.bias[:4].all() and not whole.bias[4:].any()


@pytest.mark.parametrize("layer", [nn.Linear(8, 7), nn.Linear(9, 3)])
def test_a_layer_of_another_shape_is_refused(layer: nn.Linear) -> None:
    shape = rf"layer has weight \({layer.out_features}, {layer.in_features}\)"
    with pytest.raises(ValueError, match=rf"{shape}, the zero-shot head has \(6, 8\): give texts"):
        start_from_texts(layer, texts())


def growing(text: TextHead | None = None) -> nn.Sequential:
    return nn.Sequential(OrderedDict(body=backbone(), units=GrowingTextHead(text or texts())))


def test_new_classes_start_as_texts_and_known_ones_stay_as_trained() -> None:
    text, model = texts(), growing()
    head: Any = model.units
    start = text.scale * text.weight
    assert head.classifier.out_features == 2 and torch.equal(head.classifier.weight, start[:2])
    learner, (first, second) = strategy(model, train_mb_size=20), classic(2).train_stream
    head.train()
    head.adaptation(first)
    assert torch.equal(head.classifier.weight, start[:3]) and not head.classifier.bias.any()
    rows = torch.randn(4, 8)
    np.testing.assert_allclose(
        head(rows).detach(), cosines(rows, text)[:, :3], rtol=1e-5, atol=1e-4
    )
    learner.train(first, eval_streams=[])
    trained = head.classifier.weight.detach().clone()
    assert trained.shape == (3, 8) and not torch.isclose(trained, start[:3]).any(dim=1).all()
    head.adaptation(second)
    assert torch.equal(head.classifier.weight[:3], trained)
    assert torch.equal(head.classifier.weight[3:], start[3:])
    learner.train(second, eval_streams=[])
    known = {id(p) for group in learner.optimizer.param_groups for p in group["params"]}
    assert {id(p) for p in head.parameters()} <= known
    assert not torch.equal(head.classifier.weight[3:], start[3:])


def test_classes_without_a_text_are_refused() -> None:
    with pytest.raises(ValueError, match=r"give texts of all 6 classes"):
        learn(strategy(growing(texts(5))), classic(2))


def test_the_texts_are_no_part_of_the_state_and_a_resumed_head_has_them() -> None:
    first, second = classic(2).train_stream
    grown = growing()
    assert set(grown.units.state_dict()) == {
        "active_units",
        "classifier.weight",
        "classifier.bias",
    }
    strategy(grown).train(first, eval_streams=[])
    resumed = growing()
    load_module_state(resumed, copy.deepcopy(module_state(grown)))
    for model in (grown, resumed):
        units: Any = model.units
        units.train()
        units.adaptation(second)
    for name, value in grown.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_the_embedding_before_the_head_is_found() -> None:
    assert str(find_feature_source(growing())) == "units:input"
