"""LDIFS on real architectures: taps, exact zeros, samples that do not mix."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from avalanche_proxyfda import FeatureTap, FeatureTeacher, LDIFSLoss, LDIFSPlugin, find_feature_maps
from avalanche_proxyfda.features.tap import batch_first
from tests.features.test_features import timm_model, torchvision_model
from tests.plugins.toys import Plain, classic, strategy


def open_clip(kind: str, layers: int = 12) -> nn.Module:
    from open_clip.model import CLIP

    text = {"context_length": 8, "vocab_size": 20, "width": 16, "heads": 2, "layers": 1}
    vision: dict[str, Any] = {"image_size": 32, "width": 16, "layers": layers}
    vision |= {"layers": (1, 1, 1, 1)} if kind == "resnet" else {"patch_size": 8, "head_width": 8}
    return CLIP(12, vision, text).visual


def after(*blocks: str) -> tuple[str, ...]:
    return blocks


STAGES = after("layer1", "layer2", "layer3", "layer4")
QUARTERS = [2, 5, 8, 11]
FAMILIES: dict[str, tuple[Any, tuple[str, ...], int]] = {
    "open_clip vit": (
        lambda: nn.Sequential(open_clip("vit"), nn.Linear(12, 3)),
        after("0.ln_pre", *(f"0.transformer.resblocks.{k}" for k in QUARTERS)),
        32,
    ),
    "open_clip vit of 5": (
        lambda: open_clip("vit", 5),
        after("ln_pre", *(f"transformer.resblocks.{k}" for k in (1, 2, 3, 4))),
        32,
    ),
    "open_clip resnet": (lambda: open_clip("resnet"), STAGES, 32),
    "timm vit": (
        lambda: timm_model("vit_tiny_patch16_224"),
        after("norm_pre", *(f"blocks.{k}" for k in QUARTERS)),
        224,
    ),
    "timm beit": (
        lambda: timm_model("beit_base_patch16_224"),
        after("blocks.0:input", *(f"blocks.{k}" for k in QUARTERS)),
        224,
    ),
    "timm resnet": (lambda: timm_model("resnet10t"), ("act1", *STAGES), 64),
    "timm mobilenet": (
        lambda: timm_model("mobilenetv2_035"),
        after(*(f"blocks.{k}" for k in (0, 1, 2, 4, 6))),
        32,
    ),
    "timm convnext": (
        lambda: timm_model("convnext_atto"),
        tuple(f"stages.{k}" for k in range(4)),
        32,
    ),
    "torchvision resnet": (lambda: torchvision_model("resnet18"), STAGES, 32),
    "torchvision vit": (
        lambda: torchvision_model("vit_b_32"),
        after("encoder.layers:input", *(f"encoder.layers.encoder_layer_{k}" for k in QUARTERS)),
        224,
    ),
}


def values(model: nn.Module, images: Tensor) -> list[Tensor]:
    tap = FeatureTap(find_feature_maps(model))
    tap.attach(model)
    tap.arm()
    model(images)
    found = list(tap.take().values())
    tap.detach()
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_taps_exact_zero_and_samples_that_do_not_meet(family: str) -> None:
    torch.manual_seed(0)
    make, expected, size = FAMILIES[family]
    # BatchNorm would mix a batch in training, and two of these have dropout
    model = make().train(family in ("open_clip vit", "open_clip vit of 5", "timm vit"))
    sources = find_feature_maps(model)
    assert tuple(map(str, sources)) == expected
    images = torch.randn(3, 3, size, size)
    student, alone = values(model, images), values(model, images[:1])
    teacher = FeatureTeacher(model, sources).values(images)
    loss = LDIFSLoss()(student, [teacher[s] for s in sources])
    # BEiT's learnt attention bias makes torch choose another kernel where there is no gradient
    assert float(loss) <= (1e-12 if family == "timm beit" else 0) and loss.requires_grad
    for together, single in zip(student, alone, strict=True):
        assert len(together) == 3
        torch.testing.assert_close(together[:1], single, rtol=1e-4, atol=1e-4)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1)
    assert LDIFSLoss()(values(model, images), [teacher[s] for s in sources]) > 0


def test_as_many_samples_as_tokens() -> None:
    """Seventeen of each: a layout cannot be told from the shape, and attention must not mix."""
    model, images = open_clip("vit", 4), torch.randn(17, 3, 32, 32)
    for together, single in zip(values(model, images), values(model, images[5:6]), strict=True):
        assert together.shape[:2] == (17, 17)
        torch.testing.assert_close(together[5:6], single, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("first", [True, False])
def test_tokens_of_sequence_first_blocks_are_turned(first: bool) -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=first)
    tokens = torch.randn(4, 4, 8)  # as many tokens as samples
    turned = batch_first(layer(tokens), layer)
    assert torch.equal(turned, layer(tokens) if first else layer(tokens).transpose(0, 1))
    plain = nn.Linear(8, 8)
    assert batch_first(plain(tokens), plain).shape == (4, 4, 8)


def test_an_unknown_model_asks_for_taps() -> None:
    trained = strategy(Plain(), LDIFSPlugin())
    with pytest.raises(ValueError, match=r"pass taps=\('NAME', ...\).*children are: backbone"):
        trained.train(classic().train_stream[0], eval_streams=[])


def test_bad_taps() -> None:
    for taps in ("backbone", ()):
        with pytest.raises(ValueError, match="must be a sequence of module names"):
            LDIFSPlugin(taps=taps)
    with pytest.raises(ValueError, match="normalize='rows' is unknown"):
        LDIFSPlugin(normalize="rows")  # type: ignore[arg-type]


class Pair(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x


class Tuples(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.pair = Pair()

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.pair(self.backbone(x))[0])


def test_a_tap_that_gives_no_tensor() -> None:
    trained = strategy(Tuples(), LDIFSPlugin(taps=("backbone", "pair")))
    with pytest.raises(
        ValueError, match=r"taps: 'pair' gives a tuple.*name an entry of it, 'pair\[0\]'"
    ):
        trained.train(classic().train_stream[0], eval_streams=[])
