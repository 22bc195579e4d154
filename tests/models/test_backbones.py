"""Image towers by name: weights from files, preprocessing, clear errors; zero-shot heads."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from avalanche_proxyfda import find_feature_source
from avalanche_proxyfda.models import TextHead, load_backbone, text_head
from benchmarks.models import tiny_clip
from benchmarks.models.backbone import build_backbone
from benchmarks.streams.concepts.data import concept
from tests.benchmarks.records import recipe

SHARED = Path(__file__).parents[3] / "shared" / "data"
PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (50, 70, 3), dtype=np.uint8))


def test_open_clip_with_weights_from_a_file(small_clip: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    source = open_clip.create_model(small_clip)
    save_file(source.state_dict(), tmp_path / "clip.safetensors")
    torch.save({"state_dict": source.state_dict()}, tmp_path / "clip.pt")
    for file in ("clip.safetensors", "clip.pt"):
        made = load_backbone(f"open_clip:{small_clip}", tmp_path / file)
        images = torch.stack([made.eval_transform(PICTURE), made.train_transform(PICTURE)])
        assert images.shape == (2, 3, 32, 32) and made.dim == 12
        assert torch.equal(made.tower(images), source.eval().visual(images))
        assert not made.tower.training and made.clip is not None and made.tokenizer is not None
        model = nn.Sequential(made.tower, nn.Linear(12, 3))
        assert str(find_feature_source(model)) == "0"


def test_timm_with_weights_of_a_classifier(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    source = timm.create_model("mobilenetv2_035", num_classes=7).eval()
    save_file(source.state_dict(), tmp_path / "net.safetensors")
    made = load_backbone(
        "timm:mobilenetv2_035",
        tmp_path / "net.safetensors",
        image_size=64,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
    )
    images = made.eval_transform(PICTURE)[None]
    assert images.shape == (1, 3, 64, 64) and images.min() >= -1 and made.dim == 1280
    expected = source.forward_head(source.forward_features(images), pre_logits=True)
    torch.testing.assert_close(made.tower(images), expected)
    white = made.eval_transform(Image.new("RGB", (64, 64), "white"))
    assert torch.allclose(white, torch.ones_like(white))
    assert made.clip is None


@pytest.mark.parametrize("name", ["mobilenetv3_small_050", "ghostnet_100", "lcnet_050"])
def test_the_width_is_what_the_tower_gives(name: str) -> None:
    pytest.importorskip("timm")
    made = load_backbone(f"timm:{name}", "random", image_size=64)
    assert made.tower(torch.zeros(2, 3, 64, 64)).shape == (2, made.dim)


def test_an_image_size_that_the_model_does_not_take() -> None:
    pytest.importorskip("timm")
    with pytest.raises(ValueError, match=r"does not take images of 64 x 64 .*'img_size': SIDE"):
        load_backbone("timm:vit_tiny_patch16_224", "random", image_size=64)
    options = {"img_size": 64}
    made = load_backbone("timm:vit_tiny_patch16_224", "random", image_size=64, options=options)
    assert made.eval_transform(PICTURE).shape == (3, 64, 64) and made.dim == 192


def test_the_activation_and_colours_of_a_tag_belong_to_its_weights() -> None:
    from open_clip.transformer import QuickGELU

    made = load_backbone("open_clip:ViT-B-32/openai", "random")
    assert any(isinstance(m, QuickGELU) for m in made.tower.modules())
    other = load_backbone("open_clip:ViT-B-32/laion2b_s34b_b79k", "random")
    assert not any(isinstance(m, QuickGELU) for m in other.tower.modules())
    given = load_backbone("open_clip:ViT-B-32/openai", "random", mean=(0.5,) * 3, std=(0.5,) * 3)
    white = given.eval_transform(Image.new("RGB", (224, 224), "white"))
    assert torch.allclose(white, torch.ones_like(white))


def test_weights_that_do_not_fit(small_clip: str, tmp_path: Path) -> None:
    state = open_clip.create_model(small_clip).state_dict()
    cases: list[tuple[Any, str]] = [
        ({k: v for k, v in state.items() if k != "visual.proj"}, "visual.proj is missing"),
        ({**state, "extra": torch.ones(1)}, "extra is not in the model"),
        ({**state, "visual.proj": torch.ones(2, 2)}, r"visual.proj is \(2, 2\), the model's"),
    ]
    for content, words in cases:
        save_file(content, tmp_path / "x.safetensors")
        with pytest.raises(ValueError, match=words):
            load_backbone(f"open_clip:{small_clip}", tmp_path / "x.safetensors")
    (tmp_path / "x.safetensors").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="cannot be read as a state dict"):
        load_backbone(f"open_clip:{small_clip}", tmp_path / "x.safetensors")
    with pytest.raises(FileNotFoundError, match="is not a file: check the path"):
        load_backbone(f"open_clip:{small_clip}", tmp_path / "absent.pt")


class Evil:
    """Would run code when it is unpickled."""

    def __reduce__(self) -> Any:
        return (print, ("code of a weight file ran",))


def test_code_in_a_weight_file_does_not_run(
    small_clip: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"state_dict": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(ValueError, match="cannot be read as a state dict"):
        load_backbone(f"open_clip:{small_clip}", tmp_path / "evil.pt")
    assert "ran" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("resnet50", "name='resnet50' is unknown: give 'open_clip:ARCHITECTURE/TAG' or 'timm"),
        ("ViT-B-16/openai", r"'timm:MODEL'; did you mean 'open_clip:ViT-B-16/openai'\?$"),
        ("ViT-B-16", r"did you mean 'open_clip:ViT-B-16/\w+' or 'open_clip:ViT-B-16/\w+'"),
        (
            "open_clip:ViT-B-61/openai",
            "the open_clip architecture 'ViT-B-61' is unknown; .*ViT-B-16",
        ),
        ("open_clip:ViT-B-16/opnai", "the tag of ViT-B-16 'opnai' is unknown; near ones: openai"),
        ("timm:mobilenetv2_10", "the timm model 'mobilenetv2_10' is unknown; .*mobilenetv2_100"),
    ],
)
def test_unknown_names(name: str, words: str) -> None:
    if name.startswith("timm"):
        pytest.importorskip("timm")
    with pytest.raises(ValueError, match=words):
        load_backbone(name)


@pytest.mark.parametrize("name", ["resnet18", "tim:ResNet18"])
def test_a_name_without_its_library_is_answered_with_the_whole_name(name: str) -> None:
    pytest.importorskip("timm")
    with pytest.raises(ValueError, match=r"'timm:MODEL'; did you mean 'timm:resnet18'\?$"):
        load_backbone(name)


def test_a_name_like_no_other_has_no_hint() -> None:
    with pytest.raises(ValueError, match=r"give 'open_clip:ARCHITECTURE/TAG' or 'timm:MODEL'$"):
        load_backbone("?")


@pytest.mark.parametrize("name", ["tinyclip", "tiny_clip", "Tiny-CLIP"])
def test_a_configuration_is_answered_with_its_key_and_the_small_model(name: str) -> None:
    config = recipe("finetune", backbone__name=name)
    with pytest.raises(ValueError, match=r"'timm:MODEL' or 'tiny-clip'; did you mean 'tiny-clip'"):
        build_backbone(config)
    with pytest.raises(ValueError, match=f"^backbone.name={name!r} is unknown: give "):
        build_backbone(config)


def test_a_machine_without_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise OSError(f"no route to host\n{'connection ' * 40}")

    monkeypatch.setattr(open_clip, "create_model_and_transforms", refuse)
    words = r"ViT-B-16/openai could not be .*OSError: no route to host (connection )+…\): check .*"
    with pytest.raises(ConnectionError, match=f"{words}, or pass weights=FILE$"):
        load_backbone("open_clip:ViT-B-16/openai")
    config = recipe("finetune", backbone__name="open_clip:ViT-B-16/openai")
    with pytest.raises(ConnectionError, match=r"=FILE \(in a command: --set backbone.weights=FILE"):
        build_backbone(config)


@pytest.mark.parametrize("order", [1, -1], ids=["forward", "backward"])
def test_the_zero_shot_head_is_open_clips_recipe_in_the_streams_order(order: int) -> None:
    clip, data = tiny_clip.load(), concept("colours", "validation")
    classes = list(data.classes)[::order]
    labels = torch.tensor([classes.index(data.classes[t]) for t in data.targets])
    templates = ("{}", "a picture of {}")
    head = text_head(clip, tiny_clip.tokenize, classes, templates)
    with torch.no_grad():
        rows = clip.encode_image(data.images)
        theirs = open_clip.build_zero_shot_classifier(
            clip, tiny_clip.tokenize, list(data.classes), list(templates)
        )
        right = (nn.functional.normalize(rows, dim=1) @ theirs).argmax(1)
        expected = (right == torch.tensor(data.targets)).double().mean()
        found = (head(rows).argmax(1) == labels).double().mean()
    assert found == expected > 0.3
    assert not list(head.parameters()) and set(head.state_dict()) == {"weight", "scale"}
    assert float(head.scale) == pytest.approx(float(clip.logit_scale.exp()))


def test_bad_text_heads() -> None:
    clip = tiny_clip.load()
    with pytest.raises(ValueError, match="must be different names"):
        text_head(clip, tiny_clip.tokenize, ["red", "red"])
    for template in ("a photo", "{} or {}", "a {name}", "{} {"):
        words = re.escape(f"templates: the template {template!r} must hold {{}} once")
        with pytest.raises(ValueError, match=words):
            text_head(clip, tiny_clip.tokenize, ["red"], [template])
    for templates in ([], "a {}."):
        words = re.escape(f"templates={templates!r} must be a list that holds one prompt at least")
        with pytest.raises(ValueError, match=words):
            text_head(clip, tiny_clip.tokenize, ["red"], templates)
    with pytest.raises(ValueError, match=r"has shape \(3,\)"):
        TextHead(torch.ones(3))
    with pytest.raises(ValueError, match="zero, NaN or infinite"):
        TextHead(torch.zeros(2, 3))


@pytest.mark.skipif(not (SHARED / "weights").exists(), reason="the real weights are absent")
def test_the_real_mobilenet() -> None:
    made = load_backbone(
        "timm:mobilenetv2_100",
        SHARED / "weights" / "mobilenetv2_100.safetensors",
        image_size=96,
        options={"pad_type": "same"},
    )
    rows = made.tower(made.eval_transform(PICTURE)[None])
    assert rows.shape == (1, 1280) and bool(rows.isfinite().all())
