"""A tuned model with a trained text tower: both towers and the classifier come back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load
from torch import nn

from avalanche_proxyfda import load_tuned, save_tuned
from avalanche_proxyfda.models import (
    Backbone,
    TaskHeads,
    TextHeads,
    TextTower,
    TwoTowers,
    load_backbone,
    trained_text_head,
)
from avalanche_proxyfda.tuned import WEIGHTS
from avalanche_proxyfda.tuned.files import described, state_bytes, tuned_files, tuned_state
from tests.models import small_texts
from tests.models.small_texts import IMAGE, PROMPTS, TEXT, tokenize

VIEW = {"library": "torchvision", "size": 8, "mean": (0.5,) * 3, "std": (0.5,) * 3}
RECIPE = {"name": "small", "clip": {"embed_dim": 8, "vision_cfg": IMAGE, "text_cfg": TEXT}}
NAMES = {"pets": ("cat", "dog", "ox"), "birds": ("owl", "tit")}


def backbone_of(clip: Any) -> Backbone:
    view = torch.ones_like
    return Backbone("small", clip.visual, 8, view, view, clip, tokenize, VIEW, RECIPE)


def trained(backbone: Backbone, *tasks: str) -> Any:
    """A model whose towers are no longer those of the backbone's file."""
    assert backbone.clip is not None and backbone.tokenizer is not None
    text = TextTower(backbone.clip)
    heads = [trained_text_head(text, backbone.tokenizer, NAMES[task], PROMPTS) for task in tasks]
    model: nn.Module = TwoTowers(backbone.tower, heads[0])
    if len(tasks) > 1:
        sizes = [head.classes for head in heads]
        model = TaskHeads(backbone.tower, backbone.dim, sizes, TextHeads(heads))
    with torch.no_grad():
        for parameter in text.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return model.eval()


@pytest.mark.parametrize("tasks", [("pets",), ("pets", "birds")])
@torch.no_grad()
def test_both_towers_and_the_classifier_come_back(tmp_path: Path, tasks: tuple[str, ...]) -> None:
    torch.manual_seed(0)
    backbone, images = backbone_of(small_texts.small_clip()), torch.rand(4, 3, 8, 8)
    model = trained(backbone, *tasks)
    short = {task: NAMES[task] for task in tasks}
    save_tuned(tmp_path, model, backbone, short)
    found = load_tuned(tmp_path)
    assert found.classes == short and found.text is not None
    for number, task in enumerate(tasks):
        wanted = model(images, number) if len(tasks) > 1 else model(images)
        torch.testing.assert_close(found.logits(images, task), wanted, rtol=1e-5, atol=1e-5)
        again = trained_text_head(found.text, tokenize, NAMES[task], PROMPTS).eval()
        torch.testing.assert_close(again(found.tower(images)), wanted, rtol=1e-5, atol=1e-5)
    state = load((tmp_path / WEIGHTS).read_bytes())
    assert {name.partition(".")[0] for name in state} == {"text", "tower", "head"}
    assert torch.equal(state["text.clip.text_projection"], model.text.clip.text_projection)


def test_a_fixed_head_brings_no_text_tower(tmp_path: Path) -> None:
    backbone = backbone_of(small_texts.small_clip())
    model: Any = nn.Module()
    model.tower, model.head = backbone.tower, nn.Linear(8, 3)
    save_tuned(tmp_path, model, backbone, {"pets": NAMES["pets"]})
    assert load_tuned(tmp_path).text is None


@torch.no_grad()
def test_a_tower_of_open_clip(small_clip: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    colours: Any = {"mean": (0.4,) * 3, "std": (0.3,) * 3}
    backbone = load_backbone(f"open_clip:{small_clip}", "random", **colours)
    model, images = trained(backbone, "pets"), torch.rand(2, 3, 32, 32)
    save_tuned(tmp_path, model, backbone, {"pets": NAMES["pets"]})
    found = load_tuned(tmp_path)
    torch.testing.assert_close(found.logits(images), model(images), rtol=1e-5, atol=1e-5)
    assert found.text is not None


def test_a_text_tower_that_the_backbone_lacks_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("timm")
    backbone = backbone_of(small_texts.small_clip())
    model = trained(backbone, "pets")
    description = described(model, backbone, {"pets": NAMES["pets"]})
    blind = load_backbone("timm:lcnet_050", "random", mean=(0.5,) * 3, std=(0.5,) * 3)
    wrong = replace(description, backbone=dict(blind.recipe))
    for name, content in tuned_files(wrong, state_bytes(tuned_state(model))).items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=r"lcnet_050.* has no text tower, and the weights hold"):
        load_tuned(tmp_path)
