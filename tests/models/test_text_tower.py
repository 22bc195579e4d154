"""The text tower gives open_clip's text embeddings, and holds no image tower."""

from __future__ import annotations

import copy

import pytest
import torch
from open_clip.model import CLIP, CustomTextCLIP
from torch import nn

from avalanche_proxyfda.models.text_tower import TextTower, find_text_tower

IMAGE = {"image_size": 8, "patch_size": 4, "layers": 1, "width": 8, "head_width": 8}
TEXT = {"context_length": 6, "vocab_size": 10, "width": 8, "heads": 1, "layers": 1}
TOKENS = torch.tensor([[1, 2, 9, 0, 0, 0], [3, 9, 0, 0, 0, 0]])


@pytest.mark.parametrize("kind", [CLIP, CustomTextCLIP])
def test_embeddings_are_those_of_the_whole_model(kind: type[nn.Module]) -> None:
    torch.manual_seed(0)
    clip = kind(4, IMAGE, TEXT).eval()
    before = copy.deepcopy(clip.state_dict())
    tower = TextTower(clip).eval()
    assert torch.equal(tower(TOKENS), clip.encode_text(TOKENS))
    assert not [name for name in tower.state_dict() if "visual" in name]
    tower(TOKENS).sum().backward()
    with torch.no_grad():
        for parameter in tower.parameters():
            parameter.add_(1.0)
    assert all(torch.equal(value, before[name]) for name, value in clip.state_dict().items())


def test_the_logit_scale_is_not_trained() -> None:
    clip = CLIP(4, IMAGE, TEXT)
    tower = TextTower(clip)
    trained = {name for name, p in tower.named_parameters() if p.requires_grad}
    assert trained
    assert "clip.logit_scale" not in trained
    assert tower.scale is not None
    torch.testing.assert_close(tower.scale, clip.logit_scale.detach().exp())


def test_a_model_has_one_text_tower_or_none() -> None:
    tower = TextTower(CLIP(4, IMAGE, TEXT))
    assert find_text_tower(nn.Linear(2, 2)) is None
    assert find_text_tower(nn.Sequential(nn.Linear(2, 2), tower)) is tower
    with pytest.raises(ValueError, match="2 text towers"):
        find_text_tower(nn.ModuleList([tower, TextTower(CLIP(4, IMAGE, TEXT))]))


def test_a_model_without_texts_is_refused() -> None:
    with pytest.raises(TypeError, match="Linear without encode_text"):
        TextTower(nn.Linear(2, 2))
