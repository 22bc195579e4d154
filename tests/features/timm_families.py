"""One small model of every family of timm, for the tests of the presets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

import pytest
import torch
from packaging.version import Version
from torch import Tensor, nn

_REAL = (
    "test_byobnet cait_xxs24_224 coat_lite_tiny coat_tiny convit_tiny test_convnext cpubone_nano "
    "cs3darknet_focus_s cspnext_tiny csatv2 davit_tiny deit_tiny_distilled_patch16_224 dla46x_c "
    "dpn48b edgenext_xx_small efficientformer_l1 efficientformerv2_s0 test_efficientnet "
    "efficientvit_b0 efficientvit_m0 vit_tiny_patch16_dinov3_qkvb fasternet_t0 fastvit_t8 "
    "gcvit_xxtiny ghostnet_050 hgnetv2_b0 hiera_tiny_224 hrnet_w18_small iformer_t "
    "inception_next_atto lcnetv2_small levit_256d levit_128s lowformer_b0 test_mambaout "
    "test_coatnet poolformerv2_s12 gmlp_ti16_224 lcnet_035 mobilevitv2_050 mvitv2_tiny "
    "test_nfnet pit_ti_224 pvt_v2_b0 rdnet_tiny regnetx_002 repghostnet_050 repvit_m1 "
    "test_resnet resnetv2_18 rexnet_100 selecsls42 legacy_seresnet18 sequencer2d_s shvit_s1 "
    "starnet_s050 swiftformer_xs swin_tiny_patch4_window7_224 swinv2_cr_tiny_224 "
    "tiny_vit_5m_224 tresnet_m test_vit test_vit_relpos visformer_tiny volo_d1_224 "
    "ese_vovnet19b_slim_dw xcit_nano_12_p8_224"
)
REAL = _REAL.split()
"""Models that run in a second or two on a CPU: their features are compared in numbers."""

_LARGE = (
    "beit_base_patch16_224 convmixer_768_32 deepseek_vit_412m densenet121 efficientvit_l1 "
    "focalnet_tiny_srf gemma4_vit_167m sam2_hiera_tiny inception_resnet_v2 inception_v3 "
    "inception_v4 mobilenetv5_base naflexvit_base_patch16_parfac_gap nasnetalarge nest_tiny "
    "nextvit_small pnasnet5large qwen3_vit_88m resnest14d skresnet18 res2net50_14w_8s "
    "samvit_base_patch16_224 swinv2_tiny_window8_256 tnt_s_legacy_patch16_224 twins_svt_small "
    "vgg11 vit_tiny_r_s16_p8_224 vitamin_small_224 legacy_xception xception41p botnet26t_256 "
    "hardcorenas_a"
)
LARGE = _LARGE.split()
"""Models whose shapes are compared, on the meta device."""

BRANCHED = ("crossvit_tiny_240", "efficientvim_m1", "efficientvim_m1_dist")
"""Models with several heads, each with an embedding of its own."""


def build(name: str, **options: Any) -> Any:
    """Return the model with seven classes in eval mode, and with a head that is not zero."""
    import timm

    torch.manual_seed(0)
    model = timm.create_model(name, **{"num_classes": 7, **options}).eval()
    for parameter in model.parameters():  # a head at zero would accept every embedding
        if parameter.ndim > 1 and not parameter.is_meta and not bool(parameter.any()):
            nn.init.normal_(parameter, std=0.1)
    return model


def older_timm() -> bool:
    """Return True if timm is older than the version whose families all pass these tests."""
    return Version(version("timm")) < Version("1.0.31")


@contextmanager
def on_meta() -> Iterator[None]:
    """Build models without numbers; skip the test where an older timm reads numbers meanwhile.

    timm 1.0.17 reads numbers in 50 of its families, and timm 1.0.31 in none.
    """
    try:
        with torch.device("meta"):
            yield
    except (NotImplementedError, RuntimeError) as error:
        if "meta tensor" not in str(error).lower() or not older_timm():
            raise
        pytest.skip(f"timm {version('timm')}: {error}")


def images(model: Any, device: str = "cpu", batch: int = 2) -> Tensor:
    """Return random images of the model's own size."""
    return torch.randn(batch, *model.default_cfg["input_size"], device=device)
