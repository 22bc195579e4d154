"""The presets give what enters the head and the maps of the stages, for every family of timm."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from avalanche_proxyfda import FeatureTap, LDIFSLoss, find_feature_maps, find_feature_source
from avalanche_proxyfda.features.pooling import pool_features
from tests.features.timm_families import BRANCHED, LARGE, REAL, build, images, older_timm, on_meta

timm: Any = pytest.importorskip("timm")

AVAILABLE = set(timm.list_models())
TWO_TOKENS = {"deit_tiny_distilled_patch16_224"}  # the preset reads the first, as documented
OTHER_WIDTHS = {"HighResolutionNet": {16, 32, 64, 128}}  # feature_info gives those after stage 4
_NEWER = (
    "coat_lite_tiny coat_tiny convmixer_768_32 dpn48b efficientvit_b0 efficientvit_l1 "
    "naflexvit_base_patch16_parfac_gap"
)
NEWER = _NEWER.split()
_QUICK = (
    "test_vit deit_tiny_distilled_patch16_224 test_mambaout hrnet_w18_small efficientvit_m0 "
    "test_resnet test_convnext test_byobnet levit_128s repvit_m1 dla46x_c test_nfnet "
    "swin_tiny_patch4_window7_224 pit_ti_224 sequencer2d_s volo_d1_224 selecsls42 tresnet_m"
)
QUICK = _QUICK.split()


def known(names: tuple[str, ...] | list[str], quick: list[str] = QUICK) -> list[Any]:
    """Return the names that the installed timm has; those outside ``quick`` are slow tests."""
    slow = pytest.mark.slow
    return [n if n in quick else pytest.param(n, marks=slow) for n in names if n in AVAILABLE]


def widths(model: Any) -> set[int]:
    info = {stage["num_chs"] for stage in model.feature_info}
    return info | OTHER_WIDTHS.get(type(model).__name__, set())


def tapped(model: Any, views: Tensor) -> tuple[Tensor, list[Tensor], Tensor]:
    """Return the embedding of the preset, its maps, and the library's own embedding."""
    place, maps = find_feature_source(model), find_feature_maps(model)
    tap = FeatureTap((place, *maps))
    tap.attach(model)
    tap.arm()
    features = model.forward_features(views)
    model.forward_head(features)
    values = tap.take()
    tap.detach()
    own = model.forward_head(features, pre_logits=True)
    return pool_features(values[place], str(place)), [values[m] for m in maps], own


def are_maps(maps: list[Tensor], model: Any, batch: int) -> None:
    """Check that each map has the batch, and one of timm's widths in the place of channels."""
    for value in maps:
        assert isinstance(value, Tensor) and value.ndim in (3, 4)
        assert len(value) == batch
        assert value.shape[1 if value.ndim == 4 else 2] in widths(model)


@pytest.mark.parametrize("name", known(REAL))
def test_the_embedding_is_the_one_that_the_head_is_given(name: str) -> None:
    model = build(name)
    views = images(model)
    found, maps, own = tapped(model, views)
    are_maps(maps, model, 2)
    if name in TWO_TOKENS:  # timm's own is the mean of the class token and the second token
        torch.testing.assert_close(model.forward_features(views)[:, 0], found)
        return
    wanted = own.flatten(1)
    assert found.shape == wanted.shape
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3 * float(wanted.abs().max()))
    # two images differ by far more, so the comparison means something
    assert float((found - wanted).abs().max()) < 0.1 * float((wanted[0] - wanted[1]).abs().max())


@pytest.mark.parametrize("name", [n for n in (*REAL, *LARGE) if n in AVAILABLE - set(QUICK)])
def test_every_family_by_shape(name: str) -> None:
    if name in NEWER and (older_timm() or torch.__version__ < (2, 11)):
        pytest.skip("timm 1.0.17 says other maps of it or none, or torch 2.6 has no shapes of it")
    with on_meta():
        model = build(name)
    found, maps, own = tapped(model, images(model, "meta"))
    assert name in TWO_TOKENS or found.shape == own.flatten(1).shape
    are_maps(maps, model, 2)


@pytest.mark.parametrize("family", sorted(timm.list_modules()))
def test_every_family_is_among_them(family: str) -> None:
    members = set(timm.list_models(module=family))
    if not members & {*REAL, *LARGE, *BRANCHED}:  # a family that a later timm added
        name = sorted(members)[0]
        with on_meta():
            model = build(name)
        found, maps, own = tapped(model, images(model, "meta"))
        assert found.shape == own.flatten(1).shape
        are_maps(maps, model, 2)


_MAPS = (
    "test_mambaout sequencer2d_s swin_tiny_patch4_window7_224 volo_d1_224 mvitv2_tiny pit_ti_224 "
    "hiera_tiny_224 efficientvim_m1 test_vit test_resnet selecsls42 test_convnext"
)
MAPS = _MAPS.split()
QUICK_MAPS = ["test_mambaout", "pit_ti_224", "efficientvim_m1", "test_vit", "test_convnext"]


@pytest.mark.parametrize("name", known(MAPS, QUICK_MAPS))
def test_maps_are_timms_own(name: str) -> None:
    model = build(name)
    views = images(model)
    maps = find_feature_maps(model)
    tap = FeatureTap(maps)
    tap.attach(model)
    tap.arm()
    own = model.forward_intermediates(views, intermediates_only=True)
    values = tap.take()
    tap.detach()
    assert maps[-1] in values
    last, wanted = values[maps[-1]], own[-1]
    if last.ndim == 3:  # tokens; timm leaves out those before the patches
        wanted = wanted.flatten(2).transpose(1, 2)
        last = last[:, -wanted.shape[1] :]
    torch.testing.assert_close(last, wanted)


def slow_distance(student: Tensor, teacher: Tensor) -> float:
    """Return the squared distance of two maps [B, H, W, C], each position of length one."""
    total = 0.0
    rows = list(zip(student.flatten(0, 2).tolist(), teacher.flatten(0, 2).tolist(), strict=True))
    for ours, theirs in rows:
        size, other = (sum(v * v for v in row) ** 0.5 for row in (ours, theirs))
        total += sum((a / size - b / other) ** 2 for a, b in zip(ours, theirs, strict=True))
    return total / len(rows) / student.shape[-1]


def test_volo_is_compared_over_channels_and_not_over_its_height() -> None:
    model, twin = build("volo_d1_224"), build("volo_d1_224")
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    inside: list[Tensor] = []
    places = find_feature_maps(model)
    pairs: list[list[Tensor]] = []
    for net in (model, twin):
        # hooks of our own read the layer's raw output, with the channels last
        hooked = net.get_submodule("network.4").register_forward_hook(
            lambda module, args, output: inside.append(output.detach().double())
        )
        tap = FeatureTap(places)
        tap.attach(net)
        tap.arm()
        torch.manual_seed(1)
        net.forward_features(images(net, batch=1))
        pairs.append([tap.take()[places[-1]].detach().double()])
        hooked.remove()
    assert inside[0].shape[-1] == 384
    assert float(LDIFSLoss()(*pairs)) == pytest.approx(slow_distance(*inside), rel=1e-6)


@pytest.mark.parametrize("name", [n for n in BRANCHED if n in AVAILABLE])
def test_several_heads_have_no_single_embedding(name: str) -> None:
    with on_meta():
        model, bare = build(name), build(name, num_classes=0)
    with pytest.raises(ValueError, match=r"no single embedding.*feature_module='heads?\.0:input'"):
        find_feature_source(model)
    assert str(find_feature_source(nn.Sequential(bare, nn.Linear(4, 3)))) == "0"
    maps = find_feature_maps(model)
    tap = FeatureTap(maps)
    tap.attach(model)
    tap.arm()
    model(images(model, "meta"))
    values = tap.take()
    are_maps([values[m] for m in maps], model, 2)


@pytest.mark.parametrize("name", ["efficientvit_m0", "shvit_s1", "sequencer2d_s"])
def test_without_a_head_the_output_is_the_embedding(name: str) -> None:
    with on_meta():
        bare = build(name, num_classes=0)
    assert str(find_feature_source(nn.Sequential(bare, nn.Linear(4, 3)))) == "0"
