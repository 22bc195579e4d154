"""What the methods add to a fine-tuning step of ViT-B/32 at B = 64, in operations.

The model is counted on torch's meta device, which runs shapes and no numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from open_clip.model import CLIPVisionCfg, _build_vision_tower
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from avalanche_proxyfda import (
    FDALoss,
    FeatureSource,
    FeatureTap,
    FeatureTeacher,
    LDIFSLoss,
    ProxyFDALoss,
    RIFTLoss,
    RKDLoss,
    find_feature_maps,
)
from avalanche_proxyfda.features.pooling import pool_features
from avalanche_proxyfda.features.source import OUTPUT
from avalanche_proxyfda.losses import DistillationLoss, L2SPLoss
from avalanche_proxyfda.weights import GradientProjection

BATCH, DIM = 64, 512


def flops_of(compute: Callable[[], object]) -> int:
    with FlopCounterMode(display=False) as counter:
        compute()
    return counter.get_total_flops()


class Touched(TorchDispatchMode):
    """Numbers that operations read: an upper bound of what elementwise work costs."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for arg in args:
            many = arg if isinstance(arg, (list, tuple)) else (arg,)
            self.numbers += sum(t.numel() for t in many if isinstance(t, Tensor))
        return func(*args, **(kwargs or {}))


def build() -> nn.Module:
    with torch.device("meta"):
        tower = _build_vision_tower(DIM, CLIPVisionCfg(layers=12, width=768, patch_size=32))
        return nn.Sequential(tower, nn.Linear(DIM, 100))


@pytest.fixture(scope="module")
def plain_flops() -> int:
    """A plain fine-tuning step of open_clip's tower of ViT-B/32."""
    model, images = build(), torch.randn(BATCH, 3, 224, 224, device="meta")
    labels = torch.zeros(BATCH, dtype=torch.long, device="meta")
    plain = flops_of(lambda: nn.functional.cross_entropy(model(images), labels).backward())
    assert plain > 1.4e12  # about 3 x 2 x 4.4 GMAC an image: the counter saw the whole model
    return plain


def embedding_loss(loss: nn.Module) -> Callable[[list[Tensor], list[Tensor]], Tensor]:
    loss = loss.to("meta")

    def compute(student: list[Tensor], teacher: list[Tensor]) -> Tensor:
        made = loss(*(pool_features(v[0], "tower") for v in (student, teacher)))
        return made if isinstance(made, Tensor) else made.alignment + made.generator

    return compute


EMBEDDING = (FeatureSource("0"),)
METHODS: dict[str, tuple[Any, Any]] = {
    "fda": (EMBEDDING, embedding_loss(FDALoss())),
    "proxy-fda": (EMBEDDING, embedding_loss(ProxyFDALoss(DIM))),
    "rift": (EMBEDDING, embedding_loss(RIFTLoss())),
    "rkd": (EMBEDDING, embedding_loss(RKDLoss())),
    "ldifs": (None, LDIFSLoss()),
    "lwf": ((OUTPUT,), lambda s, t: DistillationLoss()(s[0], t[0])),
}


NO_CHECKPOINTS = pytest.mark.skipif(
    torch.__version__ < (2, 6), reason="checkpointing does not run on the meta device before 2.6"
)


@pytest.mark.parametrize(
    "method",
    [
        pytest.param(method, marks=NO_CHECKPOINTS if method in ("proxy-fda", "rkd") else ())
        for method in METHODS
    ],
)
def test_a_live_teacher_costs_a_third_and_the_loss_next_to_nothing(
    plain_flops: int, method: str
) -> None:
    sources, loss = METHODS[method]
    model, images = build(), torch.randn(BATCH, 3, 224, 224, device="meta")
    labels = torch.zeros(BATCH, dtype=torch.long, device="meta")
    sources = sources or find_feature_maps(model)
    assert len(sources) == (5 if method == "ldifs" else 1)
    tap, teacher = FeatureTap(sources), FeatureTeacher(model, sources)
    tap.attach(model)

    def step() -> None:
        tap.arm()
        total = nn.functional.cross_entropy(model(images), labels)
        student, answer = tap.take(), teacher.values(images)
        total = total + loss([student[s] for s in sources], [answer[s] for s in sources])
        total.backward()

    ratio = flops_of(step) / plain_flops
    print(f"{method}: {ratio:.4f}")
    assert 1.3 < ratio <= 1.35


@pytest.mark.parametrize(
    ("loss", "most"),
    [(FDALoss(), 1.001), (ProxyFDALoss(DIM), 1.01), (RIFTLoss(), 1.001), (RKDLoss(), 1.01)],
    ids=["fda", "proxy-fda", "rift", "rkd"],
)
def test_the_losses_alone_are_almost_free(plain_flops: int, loss: nn.Module, most: float) -> None:
    student, teacher = torch.randn(BATCH, DIM, requires_grad=True), torch.randn(BATCH, DIM)

    def step() -> None:
        made = loss(student, teacher)
        (made if isinstance(made, Tensor) else made.alignment + made.generator).backward()

    ratio = 1 + flops_of(step) / plain_flops
    print(f"{type(loss).__name__}: {ratio:.5f}")
    assert 1 < ratio <= most


@pytest.mark.parametrize("method", ["l2sp", "digrap"])
def test_methods_on_weights_cost_less_than_a_hundredth(plain_flops: int, method: str) -> None:
    weights = [p for n, p in build().named_parameters() if n.startswith("0.")]
    assert sum(w.numel() for w in weights) > 8.5e7
    anchors = [w.detach().clone() for w in weights]
    with Touched() as seen:
        if method == "l2sp":
            L2SPLoss()(weights, anchors).backward()
        else:
            projection = GradientProjection()
            for weight in weights:
                weight.grad = torch.empty_like(weight)
            projection.step(weights, anchors)
            seen.numbers = 0  # the second step is the one that learns omega too
            projection.step(weights, anchors)
    ratio = 1 + seen.numbers / plain_flops
    print(f"{method}: {ratio:.5f}")
    assert 1.0001 < ratio <= 1.01


@NO_CHECKPOINTS
@pytest.mark.parametrize(
    "loss", [FDALoss(), ProxyFDALoss(8), RIFTLoss(mean_weight=1.0), RKDLoss()],
    ids=["fda", "proxy-fda", "rift", "rkd"],
)  # fmt: skip
def test_nothing_is_read_from_the_device(loss: nn.Module) -> None:
    """Tensors on meta have no values, so any read (a wait for a GPU) would raise here."""
    loss = loss.to("meta")
    student = torch.randn(20, 8, device="meta", requires_grad=True)
    made = loss(student, torch.randn(20, 8, device="meta"))
    (made if isinstance(made, Tensor) else made.alignment + made.generator).backward()
    assert student.grad is not None


def test_nothing_is_read_from_the_device_by_the_others() -> None:
    maps = [torch.randn(4, 5, 8, device="meta", requires_grad=True), torch.randn(4, 8, 3, 3)]
    maps[1] = maps[1].to("meta").requires_grad_()
    LDIFSLoss()(maps, [m.detach() for m in maps]).backward()
    logits = torch.randn(4, 6, device="meta", requires_grad=True)
    units = torch.tensor([0, 2], device="meta")
    DistillationLoss()(logits[:, units], logits.detach()[:, units]).backward()
    weights = [nn.Parameter(torch.randn(3, 4, device="meta")) for _ in range(3)]
    anchors = [w.detach().clone() for w in weights]
    L2SPLoss()(weights, anchors).backward()
    projection = GradientProjection()
    for _ in range(3):
        projection.step(weights, anchors)
    assert weights[0].grad is not None and projection.omega is not None
