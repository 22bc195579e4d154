"""What the losses add to a fine-tuning step of ViT-B/32 at B = 64, in floating-point operations.

The model is counted on torch's meta device, which runs shapes and no numbers.
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


def flops_of(compute: Callable[[], object]) -> int:
    with FlopCounterMode(display=False) as counter:
        compute()
    return counter.get_total_flops()


@pytest.fixture(scope="module")
def model_flops() -> tuple[int, int]:
    """(a plain fine-tuning step, a teacher's forward) of open_clip's tower of ViT-B/32."""
    with torch.device("meta"):
        tower = _build_vision_tower(DIM, CLIPVisionCfg(layers=12, width=768, patch_size=32))
        head, images = nn.Linear(DIM, 100), torch.randn(BATCH, 3, 224, 224)
        labels = torch.zeros(BATCH, dtype=torch.long)

    def step() -> None:
        nn.functional.cross_entropy(head(tower(images)), labels).backward()

    @torch.no_grad()
    def answer() -> None:
        tower(images)

    plain = flops_of(step)
    assert plain > 1.4e12  # about 3 x 2 x 4.4 GMAC an image: the counter saw the whole model
    return plain, flops_of(answer)


def loss_flops(loss: nn.Module) -> int:
    student, teacher = torch.randn(BATCH, DIM, requires_grad=True), torch.randn(BATCH, DIM)

    def step() -> None:
        made = loss(student, teacher)
        (made if isinstance(made, Tensor) else made.alignment + made.generator).backward()

    return flops_of(step)


@pytest.mark.parametrize(
    ("loss", "most"), [(FDALoss(), 1.001), (ProxyFDALoss(DIM), 1.01)], ids=["fda", "proxy-fda"]
)
def test_the_losses_are_almost_free_and_a_live_teacher_costs_a_third(
    model_flops: tuple[int, int], loss: nn.Module, most: float
) -> None:
    plain, teacher = model_flops
    added = loss_flops(loss)
    assert 1 < (plain + added) / plain <= most
    assert 1.3 < (plain + added + teacher) / plain <= 1.35


@pytest.mark.skipif(
    torch.__version__ < (2, 6), reason="checkpointing does not run on the meta device before 2.6"
)
@pytest.mark.parametrize("loss", [FDALoss(), ProxyFDALoss(8)], ids=["fda", "proxy-fda"])
def test_nothing_is_read_from_the_device(loss: nn.Module) -> None:
    """Tensors on meta have no values, so any read (a wait for a GPU) would raise here."""
    loss = loss.to("meta")
    student = torch.randn(20, 8, device="meta", requires_grad=True)
    made = loss(student, torch.randn(20, 8, device="meta"))
    (made if isinstance(made, Tensor) else made.alignment + made.generator).backward()
    assert student.grad is not None
