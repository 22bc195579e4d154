"""A local file is loaded as the library loads its hub's: heads, sizes, prefixes, averages."""

from __future__ import annotations

import argparse
import copy
import json
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from avalanche_proxyfda.models import load_backbone, read_weights

timm: Any = pytest.importorskip("timm")
VIT = "vit_tiny_patch16_224"


def saved(model: nn.Module, folder: Path) -> Path:
    path = folder / "x.safetensors"
    save_file(model.state_dict(), path)
    return path


def from_hub(name: str, state: dict[str, Tensor], **options: Any) -> nn.Module:
    """The tower that timm makes, with ``state`` in the place of its hub's file."""
    overlay = {"state_dict": copy.deepcopy(state)}
    made: nn.Module = timm.create_model(
        name, pretrained=True, pretrained_cfg_overlay=overlay, num_classes=0, **options
    )
    return made.eval()


@pytest.mark.parametrize("name", ["convformer_s18", "lcnet_050", "efficientvit_b0"])
@torch.no_grad()
def test_a_classifiers_head_of_any_depth_is_left_out(tmp_path: Path, name: str) -> None:
    torch.manual_seed(0)
    source = timm.create_model(name, num_classes=5)
    made = load_backbone(f"timm:{name}", saved(source, tmp_path), image_size=64)
    images = torch.rand(2, 3, 64, 64)
    expected = from_hub(name, source.state_dict())(images)
    assert torch.equal(made.tower(images), expected) and expected.std() > 0
    assert "state_dict" not in made.tower.pretrained_cfg


@torch.no_grad()
def test_position_embeddings_of_another_size_are_resized(tmp_path: Path) -> None:
    torch.manual_seed(0)
    source = timm.create_model(VIT, num_classes=5)
    nn.init.normal_(source.pos_embed)
    options = {"img_size": 96}
    path = saved(source, tmp_path)
    made = load_backbone(f"timm:{VIT}", path, image_size=96, options=options)
    images = torch.rand(2, 3, 96, 96)
    assert torch.equal(made.tower(images), from_hub(VIT, source.state_dict(), **options)(images))
    assert "state_dict" not in made.tower.pretrained_cfg
    whole = {k: v for k, v in source.state_dict().items() if k != "blocks.0.norm1.weight"}
    save_file(whole, path)
    with pytest.raises(ValueError, match=r"do not fit: blocks\.0\.norm1\.weight is missing"):
        load_backbone(f"timm:{VIT}", path, image_size=96, options=options)


def test_files_of_another_model_are_refused(tmp_path: Path) -> None:
    other = timm.create_model("mobilenetv2_035", num_classes=0)
    with pytest.raises(ValueError, match=r"do not fit: cls_token is missing.* and 1.. more"):
        load_backbone(f"timm:{VIT}", saved(other, tmp_path))


@pytest.mark.parametrize("wrapper", ["model.", "module.", "_orig_mod.module.", "module._orig_mod."])
def test_prefixes_of_wrappers_are_removed(small_clip: str, tmp_path: Path, wrapper: str) -> None:
    source = open_clip.create_model(small_clip).state_dict()
    path = tmp_path / "x.safetensors"
    save_file({f"{wrapper}{k}": v for k, v in source.items()}, path)
    made = load_backbone(f"open_clip:{small_clip}", path)
    assert made.clip is not None
    assert torch.equal(made.clip.state_dict()["visual.proj"], source["visual.proj"])
    net = timm.create_model("lcnet_050", num_classes=3)
    save_file({f"{wrapper}{k}": v for k, v in net.state_dict().items()}, path)
    tower = load_backbone("timm:lcnet_050", path, image_size=64).tower
    assert all(torch.equal(v, net.state_dict()[k]) for k, v in tower.state_dict().items())


@pytest.mark.parametrize(
    "keys",
    [
        ("state_dict_ema", "state_dict"),
        ("model_ema", "model"),
        ("state_dict", "model"),
        ("model",),
        ("state_dict",),
    ],
)
def test_checkpoints_are_read_as_timm_reads_them(tmp_path: Path, keys: tuple[str, ...]) -> None:
    states = {key: {"module.a": torch.full((2,), float(k))} for k, key in enumerate(keys)}
    # timm saves its arguments too, as a namespace
    content = {"epoch": 3, "args": argparse.Namespace(lr=1.0), "optimizer": {"x": [1]}, **states}
    torch.save(content, tmp_path / "x.pth")
    found, theirs = (
        read_weights(tmp_path / "x.pth"),
        timm.models.load_state_dict(tmp_path / "x.pth"),
    )
    assert found.keys() == theirs.keys() == {"a"}
    assert torch.equal(found["a"], theirs["a"]) and torch.equal(found["a"], torch.zeros(2))


def test_averages_of_torch(tmp_path: Path) -> None:
    average = torch.optim.swa_utils.AveragedModel(nn.Linear(2, 1))
    torch.save({"model_ema": average.state_dict()}, tmp_path / "x.pth")
    assert read_weights(tmp_path / "x.pth").keys() == {"weight", "bias"}


@torch.no_grad()
def test_open_clip_resizes_position_embeddings(small_clip: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    source = open_clip.create_model(small_clip)
    nn.init.normal_(source.visual.positional_embedding)
    path = saved(source, tmp_path)
    options = {"force_context_length": 16}
    made = load_backbone(f"open_clip:{small_clip}", path, image_size=64, options=options)
    expected = open_clip.create_model(
        small_clip, pretrained=str(path), force_image_size=64, force_context_length=16
    ).eval()
    images, texts = torch.rand(2, 3, 64, 64), torch.ones(1, 16, dtype=torch.long)
    assert torch.equal(made.tower(images), expected.visual(images))
    assert made.clip is not None
    assert torch.equal(made.clip.encode_text(texts), expected.encode_text(texts))  # type: ignore[operator]


def architecture(small_clip: str, folder: Path, name: str, **changes: Any) -> str:
    config = {**open_clip.get_model_config(small_clip), **changes}
    (folder / f"{name}.json").write_text(json.dumps(config), encoding="utf-8")
    open_clip.add_model_config(folder / f"{name}.json")
    return name


@torch.no_grad()
def test_a_timm_tower_of_open_clip_is_resized_too(small_clip: str, tmp_path: Path) -> None:
    vision = {"timm_model_name": VIT, "timm_model_pretrained": False, "image_size": 224}
    name = architecture(small_clip, tmp_path, "small-timm-clip", vision_cfg=vision)
    torch.manual_seed(0)
    source = open_clip.create_model(name)
    nn.init.normal_(source.visual.trunk.pos_embed)
    path = saved(source, tmp_path)
    made = load_backbone(f"open_clip:{name}", path, image_size=96)
    expected = open_clip.create_model(name, pretrained=str(path), force_image_size=96).eval()
    images = torch.rand(2, 3, 96, 96)
    assert torch.equal(made.tower(images), expected.visual(images))
    assert made.preprocessing["size"] == (96, 96)
    again = load_backbone(f"open_clip:{name}", saved(expected, tmp_path), image_size=96)
    assert torch.equal(again.tower(images), expected.visual(images))


@torch.no_grad()
def test_the_tower_of_coca_gives_its_embedding(small_clip: str, tmp_path: Path) -> None:
    config = open_clip.get_model_config(small_clip)
    vision = {
        **config["vision_cfg"],
        "attentional_pool": True,
        "attn_pooler_heads": 2,
        "output_tokens": True,
    }
    text = {**config["text_cfg"], "embed_cls": True, "output_tokens": True}
    decoder = {"context_length": 76, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
    name = architecture(
        small_clip,
        tmp_path,
        "small-coca",
        vision_cfg=vision,
        text_cfg=text,
        multimodal_cfg=decoder,
        custom_text=True,
    )
    made = load_backbone(f"open_clip:{name}", "random")
    clip: Any = made.clip
    images = torch.rand(2, 3, 32, 32)
    assert made.dim == 12 and isinstance(clip, open_clip.CoCa)
    assert torch.equal(made.tower(images), clip.encode_image(images, normalize=False))
    ours, theirs = made.tower.parameters(), clip.visual.parameters()
    assert all(one is other for one, other in zip(ours, theirs, strict=True))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"precision": "bf16"}, r"'precision' cannot be set: the tower has float32"),
        ({"device": "cuda"}, "'device' cannot be set"),
        ({"num_classes": 3}, "'num_classes' cannot be set: the tower has no classifier"),
        ({"force_quick_gelu": "no"}, r"force_quick_gelu='no': give true or false"),
        ({"drop_paths": 0.1}, r"does not take them \(TypeError: .*'drop_paths'"),
    ],
)
def test_options_that_are_refused(small_clip: str, options: dict[str, Any], words: str) -> None:
    for name in (f"open_clip:{small_clip}", "timm:lcnet_050"):
        with pytest.raises(ValueError, match=words) as caught:
            load_backbone(name, "random", options=options)
        assert "\n" not in str(caught.value)


def test_a_text_tower_of_hugging_face_without_a_network(
    small_clip: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any, **settings: Any) -> None:
        assert settings["pretrained_text"] is False  # only the configuration is needed
        raise OSError("We couldn't connect to 'https://huggingface.co'")

    monkeypatch.setattr(open_clip, "create_model_and_transforms", refuse)
    with pytest.raises(ConnectionError, match=r"needs a file of Hugging Face, .* with a network"):
        load_backbone(f"open_clip:{small_clip}", "random")
