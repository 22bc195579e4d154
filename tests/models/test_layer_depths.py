"""Depths of the blocks of transformers of open_clip and timm."""

from __future__ import annotations

import pytest
from open_clip.model import CustomTextCLIP
from torch import nn

from avalanche_proxyfda.models import TextTower, layer_depths
from tests.models.small_texts import IMAGE, TEXT, small_clip


def test_the_towers_of_open_clip() -> None:
    custom = CustomTextCLIP(8, IMAGE, TEXT)
    for tower, embedding, last, prefix in (
        (small_clip().visual, "conv1.weight", "proj", ""),
        (TextTower(small_clip()), "clip.token_embedding.weight", "clip.text_projection", "clip."),
        (
            TextTower(custom),
            "clip.text.token_embedding.weight",
            "clip.text.text_projection",
            "clip.text.",
        ),
    ):
        depths = layer_depths(tower)
        assert list(depths) == [name for name, _ in tower.named_parameters()]
        assert depths[embedding] == 3 and depths[last] == 0
        block = f"{prefix}transformer.resblocks"
        assert {d for n, d in depths.items() if n.startswith(f"{block}.0.")} == {2}
        assert {d for n, d in depths.items() if n.startswith(f"{block}.1.")} == {1}
        assert depths[f"{prefix}positional_embedding"] == 3
        assert {d for n, d in depths.items() if ".ln_final" in n or n.startswith("ln_post")} == {0}


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "eva02_tiny_patch14_224"])
def test_the_towers_of_timm(name: str) -> None:
    timm = pytest.importorskip("timm")
    tower = timm.create_model(name, num_classes=0, depth=2, embed_dim=24, num_heads=2)
    depths = layer_depths(tower)
    assert depths["patch_embed.proj.weight"] == depths["cls_token"] == depths["pos_embed"] == 3
    assert {d for n, d in depths.items() if n.startswith("blocks.0.")} == {2}
    assert {d for n, d in depths.items() if n.startswith("blocks.1.")} == {1}
    norms = [d for n, d in depths.items() if n.startswith(("norm.", "fc_norm."))]
    assert set(norms) == {0}


def test_other_towers_are_refused_by_name() -> None:
    timm = pytest.importorskip("timm")
    resnet = timm.create_model("resnet10t", num_classes=0)
    with pytest.raises(ValueError, match="the blocks of ResNet are unknown: layer-wise decay need"):
        layer_depths(resnet)
    with pytest.raises(ValueError, match="the blocks of Linear are unknown"):
        layer_depths(nn.Linear(2, 2))
