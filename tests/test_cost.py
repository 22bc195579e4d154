"""What the losses add to a fine-tuning step of ViT-B/32 at B = 64, in floating-point operations.

Counted on torch's meta device, which runs shapes and no numbers, so it takes no time.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from open_clip.model import CLIPVisionCfg, _build_vision_tower
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from avalanche_proxyfda import FDALoss, ProxyFDALoss

BATCH, DIM = 64, 512
Term = Callable[[Tensor, Tensor], Tensor]


def tower() -> nn.Module:
    """open_clip's image tower of ViT-B/32."""
    return _build_vision_tower(DIM, CLIPVisionCfg(layers=12, width=768, patch_size=32))


def step_flops(term: Term | None = None, live_teacher: bool = False) -> int:
    with torch.device("meta"):
        student, head = tower(), nn.Linear(DIM, 100)
        images = torch.randn(BATCH, 3, 224, 224)
        labels = torch.zeros(BATCH, dtype=torch.long)
        known = torch.randn(BATCH, DIM)
    with FlopCounterMode(display=False) as counter:
        features = student(images)
        loss = nn.functional.cross_entropy(head(features), labels)
        if live_teacher:
            with torch.no_grad():
                known = student(images)
        if term is not None:
            loss = loss + term(features, known)
        loss.backward()
    return counter.get_total_flops()


@pytest.fixture(scope="module")
def plain() -> int:
    flops = step_flops()
    assert flops > 1.4e12  # about 3 x 2 x 4.4 GMAC an image: the counter saw the whole model
    return flops


def fda() -> Term:
    return FDALoss().to("meta")


def proxy_fda() -> Term:
    loss = ProxyFDALoss(DIM).to("meta")
    return lambda student, teacher: sum(loss(student, teacher), torch.zeros((), device="meta"))


@pytest.mark.parametrize(("make", "most"), [(fda, 1.001), (proxy_fda, 1.01)])
def test_given_teacher_features_the_loss_is_almost_free(
    plain: int, make: Callable[[], Term], most: float
) -> None:
    ratio = step_flops(make()) / plain
    assert 1 < ratio <= most


@pytest.mark.parametrize("make", [fda, proxy_fda])
def test_a_live_teacher_costs_a_third(plain: int, make: Callable[[], Term]) -> None:
    assert 1.3 < step_flops(make(), live_teacher=True) / plain <= 1.35
