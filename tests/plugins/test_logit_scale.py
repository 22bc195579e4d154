"""The scale of image-text logits is that of the model's zero-shot head, of either kind."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from avalanche_proxyfda import LipsumFTPlugin, ReferenceData, ZSCLPlugin
from avalanche_proxyfda.models import SeenTextHead, TextHead
from avalanche_proxyfda.plugins.base.logit_scale import CLIP_SCALE, logit_scale
from tests.plugins.toys import CLASSES, backbone, classic, strategy


def text(scale: float) -> TextHead:
    return TextHead(torch.randn(CLASSES, 8, generator=torch.Generator().manual_seed(0)), scale)


@pytest.mark.parametrize("head", [TextHead, SeenTextHead])
@pytest.mark.parametrize("kind", [ZSCLPlugin, LipsumFTPlugin])
def test_a_plugin_takes_the_scale_of_the_head(kind: Any, head: Any) -> None:
    model = nn.Sequential(backbone(), text(14.0) if head is TextHead else SeenTextHead(text(14.0)))
    images = torch.randn(9, 1, 4, 4, generator=torch.Generator().manual_seed(5))
    texts = torch.randn(4, 8, generator=torch.Generator().manual_seed(6))
    own = kind(1.0, reference_data=ReferenceData(images, texts, batch=8), feature_module="0")
    strategy(model, own).train(classic(1).train_stream[0], eval_streams=[])
    assert own.loss.scale == 14.0


def test_heads_of_different_scales_need_a_number() -> None:
    model = nn.ModuleList([text(14.0), SeenTextHead(text(20.0))])
    with pytest.raises(ValueError, match=r"the scales \[14.0, 20.0\]: give the plugin one"):
        logit_scale(model, None)
    assert logit_scale(model, 3.0) == 3.0
    assert logit_scale(nn.Linear(2, 2), None) == CLIP_SCALE
