"""The presets give what enters the head, for the families of torchvision and open_clip."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from avalanche_proxyfda import FeatureTap, find_feature_maps, find_feature_source
from avalanche_proxyfda.features.pooling import pool_features
from tests.features.timm_families import older_timm, on_meta

torchvision: Any = pytest.importorskip("torchvision")

_FAMILIES = (
    "alexnet convnext_tiny densenet121 efficientnet_b0 efficientnet_v2_s googlenet inception_v3 "
    "maxvit_t mnasnet0_5 mobilenet_v2 mobilenet_v3_small regnet_y_400mf resnet18 "
    "resnext50_32x4d shufflenet_v2_x0_5 squeezenet1_0 swin_t swin_v2_t vgg11 vit_b_32 "
    "wide_resnet50_2"
)
FAMILIES = _FAMILIES.split()
WITH_MAPS = {"resnet18", "resnext50_32x4d", "wide_resnet50_2", "vit_b_32"}


def layers_before(model: nn.Module, run: Any) -> Tensor:
    """Return the argument of the last linear layer or convolution that ran."""
    arguments: list[Tensor] = []
    kinds = (nn.Linear, nn.Conv2d)
    hooks = [
        layer.register_forward_pre_hook(lambda module, args: arguments.append(args[0]))
        for layer in model.modules()
        if isinstance(layer, kinds)
    ]
    run()
    for hook in hooks:
        hook.remove()
    return arguments[-1]


@pytest.mark.parametrize("name", FAMILIES)
def test_torchvision(name: str) -> None:
    options: dict[str, Any] = {"weights": None, "num_classes": 7}
    if name in ("googlenet", "inception_v3"):
        options["init_weights"] = False
    # RegNet computes its widths with tensors as it is built
    with torch.device("cpu" if name.startswith("regnet") else "meta"):
        model = torchvision.models.get_model(name, **options).eval()
    side = 299 if name == "inception_v3" else 224
    views = torch.zeros(2, 3, side, side, device=next(model.parameters()).device)
    place = find_feature_source(model)
    maps = find_feature_maps(model) if name in WITH_MAPS else ()
    tap = FeatureTap((place, *maps))
    tap.attach(model)
    tap.arm()
    entered = layers_before(model, lambda: model(views))
    values = tap.take()
    assert pool_features(values[place], str(place)).shape == entered.shape[:2]
    assert all(len(values[m]) == 2 and values[m].ndim in (3, 4) for m in maps)
    if name not in WITH_MAPS:
        with pytest.raises(ValueError, match=r"no preset knows the feature maps.*pass taps="):
            find_feature_maps(model)


def architectures() -> list[Any]:
    open_clip: Any = pytest.importorskip("open_clip")
    quick = {"coca_ViT-B-32", "RN50", "ViT-M-32-alt", "swin_base_patch4_window7_224"}
    quick |= {"vit_relpos_medium_patch16_cls_224", "PE-Core-T-16-384", "MobileCLIP2-S0"}
    slow = pytest.mark.slow
    return [n if n in quick else pytest.param(n, marks=slow) for n in open_clip.list_models()]


@pytest.mark.parametrize("name", architectures())
def test_open_clip(name: str) -> None:
    open_clip: Any = pytest.importorskip("open_clip")
    if name == "PE-Core-T-16-384" and older_timm():
        pytest.skip("timm 1.0.17 has no vit_pe_core_tiny_patch16_384")
    config = open_clip.get_model_config(name)
    vision, width = config["vision_cfg"], config["embed_dim"]
    with on_meta():
        tower = open_clip.model._build_vision_tower(width, vision, config.get("quick_gelu", False))
    side = vision.get("image_size", 224)
    model = nn.Sequential(tower.eval(), nn.Linear(width, 3, device="meta"))
    place, maps = find_feature_source(model), find_feature_maps(model)
    assert str(place) == "0"
    tap = FeatureTap((place, *maps))
    tap.attach(model)
    tap.arm()
    tower(torch.zeros(2, 3, *(side if isinstance(side, list) else (side, side)), device="meta"))
    values = tap.take()
    assert pool_features(values[place], "0").shape == (2, width)
    for m in maps:
        assert isinstance(values[m], Tensor) and values[m].ndim in (3, 4)
        assert len(values[m]) == 2
    assert len(maps) >= 4
