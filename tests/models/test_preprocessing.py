"""Preprocessing and activation belong to the weights, whatever file the weights come from."""

from __future__ import annotations

import json
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from open_clip import transform
from open_clip.pretrained import _PRETRAINED
from packaging.version import Version
from PIL import Image
from safetensors.torch import save_file

from avalanche_proxyfda.models import load_backbone
from avalanche_proxyfda.models.preprocessing import eval_view

PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (50, 70, 3), dtype=np.uint8))
TAGS = [(architecture, tag) for architecture, tags in _PRETRAINED.items() for tag in tags]
IMAGES = ("mean", "std", "interpolation", "resize_mode")


class Asked(BaseException):
    """Ends the build of a model with the arguments that open_clip was given."""


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Return the arguments of open_clip's constructor for a name and a source of weights."""

    def refuse(architecture: str, **settings: Any) -> None:
        raise Asked(settings)

    monkeypatch.setattr(open_clip, "create_model_and_transforms", refuse)
    file = tmp_path / "x.safetensors"
    save_file({"logit_scale": torch.ones(1)}, file)

    def arguments(name: str, source: str, **more: Any) -> dict[str, Any]:
        weights = {"hub": None, "file": file, "random": "random"}[source]
        with pytest.raises(Asked) as caught:
            load_backbone(f"open_clip:{name}", weights, **more)
        settings: dict[str, Any] = caught.value.args[0]
        return settings

    return arguments


def images_of(settings: dict[str, Any]) -> dict[str, Any]:
    return {key: settings[f"image_{key}"] for key in IMAGES}


def test_every_tag_has_its_own_images_from_every_source(asked: Any) -> None:
    assert len(TAGS) > 150
    others = 0
    for architecture, tag in TAGS:
        entry: dict[str, Any] = _PRETRAINED[architecture][tag]
        # the hub's path: open_clip merges the tag's entry over its defaults
        hub = transform.merge_preprocess_dict(transform.PreprocessCfg(), entry)
        for source in ("hub", "file", "random"):
            settings = asked(f"{architecture}/{tag}", source)
            assert images_of(settings) == {key: hub[key] for key in IMAGES}, (architecture, tag)
            assert settings["force_quick_gelu"] == entry.get("quick_gelu", False)
        usual = asdict(transform.PreprocessCfg())
        others += any(hub[key] != usual[key] for key in ("interpolation", "resize_mode"))
    # so many lost their resizing in files; open_clip 3.0 has fewer tags
    assert others >= (57 if Version(version("open_clip_torch")) >= Version("3.3") else 50)


def test_without_a_tag_the_tags_must_agree(asked: Any) -> None:
    refused = []
    for architecture, tags in _PRETRAINED.items():
        entries: list[Any] = [{"quick_gelu": False, **tag} for tag in tags.values()]
        keys = (*IMAGES, "quick_gelu")
        if all(len({entry[key] for entry in entries}) == 1 for key in keys):
            settings = asked(architecture, "file")
            assert images_of(settings) == {key: entries[0][key] for key in IMAGES}
            assert settings["force_quick_gelu"] == entries[0]["quick_gelu"]
            continue
        refused.append(architecture)
        words = rf"the tags of {architecture} disagree on .*name the tag of the weights"
        with pytest.raises(ValueError, match=words):
            asked(architecture, "file")
        asked(architecture, "random")  # random weights fit any images
    assert {"ViT-B-32", "ViT-B-16", "ViT-L-14", "ViT-H-14"} <= set(refused)


def test_what_the_user_says_needs_no_agreement(asked: Any) -> None:
    words = r"disagree on quick_gelu \(True: openai.*; False: laion.*options=\{'force_quick_gelu'"
    with pytest.raises(ValueError, match=words):
        asked("ViT-B-32", "file")
    assert asked("ViT-B-32", "file", options={"force_quick_gelu": True})["force_quick_gelu"] is True
    with pytest.raises(ValueError, match=r"disagree on mean .* or pass mean="):
        asked("ViT-L-14", "file", options={"force_quick_gelu": False})
    given = {"mean": (0.1, 0.2, 0.3), "std": (1.0, 1.0, 1.0), "options": {"force_quick_gelu": True}}
    settings = asked("ViT-L-14", "file", **given)
    assert settings["image_mean"] == (0.1, 0.2, 0.3) and settings["image_std"] == (1.0, 1.0, 1.0)


def test_a_file_of_a_siglip_tag_gets_squashed_images(
    small_clip: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = _PRETRAINED["ViT-B-16-SigLIP"]["webli"]
    monkeypatch.setitem(_PRETRAINED, small_clip, {"webli": entry})
    save_file(open_clip.create_model(small_clip).state_dict(), tmp_path / "x.safetensors")
    expected = transform.image_transform_v2(
        transform.PreprocessCfg(
            size=32, mean=(0.5,) * 3, std=(0.5,) * 3, interpolation="bicubic", resize_mode="squash"
        ),
        is_train=False,
    )
    for name in (small_clip, f"{small_clip}/webli"):
        made = load_backbone(f"open_clip:{name}", tmp_path / "x.safetensors")
        assert torch.equal(made.eval_transform(PICTURE), expected(PICTURE))
    other = load_backbone(f"open_clip:{small_clip}", "random", mean=(0.4,) * 3)
    assert not torch.equal(other.eval_transform(PICTURE), expected(PICTURE))


def test_an_architecture_without_tags_has_open_clips_defaults(small_clip: str) -> None:
    made = load_backbone(f"open_clip:{small_clip}", "random")
    expected = transform.image_transform_v2(transform.PreprocessCfg(size=32), is_train=False)
    assert torch.equal(made.eval_transform(PICTURE), expected(PICTURE))


def test_a_view_is_built_from_its_settings(small_clip: str) -> None:
    timm = pytest.importorskip("timm")
    made = load_backbone("timm:mobilenetv2_035", "random", image_size=64, mean=(0.5,) * 3)
    config = timm.data.resolve_model_data_config(made.tower) | {"input_size": (3, 64, 64)}
    expected = timm.data.create_transform(**config | {"mean": (0.5,) * 3}, is_training=False)
    assert torch.equal(made.eval_transform(PICTURE), expected(PICTURE))
    for backbone in (made, load_backbone(f"open_clip:{small_clip}", "random")):
        again = eval_view(json.loads(json.dumps(backbone.preprocessing)))
        assert torch.equal(backbone.eval_transform(PICTURE), again(PICTURE))


def test_settings_that_no_library_has() -> None:
    with pytest.raises(ValueError, match="library='keras' is none of open_clip, timm"):
        eval_view({"library": "keras"})
    with pytest.raises(ValueError, match=r"open_clip refuses it: .*'crop'"):
        eval_view({"library": "open_clip", "crop": 3})
    with pytest.raises(ValueError, match="torchvision refuses it: 'size'"):
        eval_view({"library": "torchvision"})
