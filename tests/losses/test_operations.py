"""Operations and synchronisations of a step of each loss, counted; and fits to a device."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from avalanche_proxyfda.losses import FDALoss, ProxyFDALoss, SoftFDALoss, SoftProxyFDALoss
from benchmarks.perf.counting import Operations, memory_of
from benchmarks.perf.losses import Case, Size
from tests.losses.common import LOSSES, features, loss_on_rows

MEMORY = 80 * 2**30
DECOMPOSED = {
    "rift-spectrum": {"_linalg_eigh": 2},
    "rift-procrustes": {"_linalg_svd": 1},
    "rift-learned": {"_linalg_solve_ex": 1},
}
"""Rotations of RIFT; their kernels wait on CUDA."""


@pytest.fixture(autouse=True)
def _without_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "max_proxies=")
        yield


def counted(name: str, batch: int, dim: int = 512) -> Operations:
    """Forward and backward of a loss on a simulated accelerator."""
    case = Case(name, Size(batch, dim), "meta")
    with memory_of(MEMORY), Operations() as seen:
        case.step()
    return seen


@pytest.mark.parametrize(
    ("name", "most"),
    [
        ("fda", 100),
        ("proxy-fda", 600),
        ("proxy-fda, 32 proxies", 600),
        ("rkd", 300),
        ("pkt", 100),
        ("soft-fda", 100),
    ],
)
def test_a_step_of_256_launches_few_operations_on_an_accelerator(name: str, most: int) -> None:
    """The bound holds for views too, which launch nothing; torch 2.6 has a few views more."""
    seen = counted(name, 256)
    assert seen.launches > 50
    counts_views = torch.__version__ >= (2, 11)
    assert seen.launches + seen.views * counts_views <= most


@pytest.mark.parametrize(
    ("name", "most"), [("fda", 100), ("proxy-fda", 600), ("rkd", 300), ("pkt", 100)]
)
def test_a_step_of_512_launches_few_more(name: str, most: int) -> None:
    assert 50 < counted(name, 512).launches <= most


@pytest.mark.parametrize(
    ("make", "most"),
    [
        (SoftFDALoss, 100),
        (partial(SoftFDALoss, divergence="bregman"), 110),
        (partial(SoftProxyFDALoss, 512, max_proxies=128), 600),
    ],
    ids=["kl", "bregman", "proxies"],
)
def test_soft_fda_with_a_memory_launches_few_operations(
    make: Callable[[], nn.Module], most: int
) -> None:
    loss = make().to("meta")
    student = torch.randn(256, 512, device="meta", requires_grad=True)
    teacher, memory = (torch.randn(rows, 512, device="meta") for rows in (256, 256))
    with memory_of(MEMORY), Operations() as seen:
        made = loss(student, teacher, memory)
        (made if isinstance(made, Tensor) else sum(made)).backward()
    assert 50 < seen.launches <= most and seen.syncs == {}


def test_a_smaller_accelerator_takes_more_operations() -> None:
    """RKD needs 134 MB for the sides of all angles, and a block is 1/256 of the memory."""
    case, counts = Case("rkd", Size(256, 512), "meta"), []
    for memory in (MEMORY, 16 * 2**30):
        with memory_of(memory), Operations() as seen:
            case.step()
        counts.append(seen.launches)
    assert counts[0] < counts[1] < 300


def test_proxy_fda_and_its_optimizer_launch_few_operations() -> None:
    student, teacher = features(256, 512).float().requires_grad_(), features(256, 512, 1).float()
    loss = ProxyFDALoss(512, max_proxies=4)
    optimizer = torch.optim.AdamW(loss.parameters(), foreach=True)
    with memory_of(MEMORY), Operations() as seen:
        sum(loss(student, teacher)).backward()
        optimizer.step()
    assert 200 < seen.launches <= 600


# ---- synchronisations -------------------------------------------------------------------


@pytest.mark.parametrize("name", LOSSES)
def test_no_loss_waits_for_the_device(name: str) -> None:
    """Tensors on meta have no values: a copy to the host, which torch does not count, raises."""
    loss = loss_on_rows(name, 12, 14, tokens=3, side=2).to("meta")
    student = torch.randn(14, 12, device="meta", requires_grad=True)
    teacher = torch.randn(14, 12, device="meta")
    with memory_of(MEMORY), Operations() as seen:
        made = loss(student, teacher)
        (made if isinstance(made, Tensor) else sum(made)).backward()
    assert student.grad is not None
    assert seen.syncs == DECOMPOSED.get(name, {})


def test_the_fit_of_a_start_waits_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """One copy to the host comes before all reads of values."""
    loss, teacher, reads = FDALoss(3), features(14, 5) + 1.0, []
    with Operations() as seen:

        def copied(value: Tensor) -> Tensor:
            reads.append(Counter(seen.syncs))
            return value

        monkeypatch.setattr(Tensor, "cpu", copied)
        assert loss.fit(teacher)
    assert reads == [Counter()] and seen.syncs["_local_scalar_dense"] > 10


def test_the_counter_knows_what_waits() -> None:
    value, mask = torch.arange(6.0), torch.arange(6) > 2
    waits = {
        "_local_scalar_dense": lambda: float(value[0]),
        "nonzero": lambda: mask.nonzero(),
        "index": lambda: value[mask],
        "index_put_": lambda: value.clone().__setitem__(mask, value[mask] * 2),
        "lift_fresh": lambda: torch.tensor([1.0, 2.0]),
        "_to_copy": lambda: value.to("meta"),
        "copy_": lambda: torch.empty(6, device="meta").copy_(value),
        "equal": lambda: torch.equal(value, value),
    }
    for name, work in waits.items():
        with Operations() as seen:
            work()
        assert seen.syncs[name] == 1, name
    with Operations() as seen:
        value.view(2, 3).T + 1
        value[torch.arange(2)]
        value.double()
        value.to("meta", non_blocking=True)
        torch.empty(6, device="meta").copy_(value, non_blocking=True)
    assert not seen.syncs and seen.views == 2 and seen.launches >= 6
