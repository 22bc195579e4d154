"""The losses that are measured, and the sizes of their batches of features."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from avalanche_proxyfda import FDALoss, PKTLoss, ProxyFDALoss, RIFTLoss, RKDLoss, SoftFDALoss
from avalanche_proxyfda.losses import chunks
from avalanche_proxyfda.losses.proxies import proxy_count
from benchmarks.perf.options import FEW

BATCHES = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
DIMS = (512, 768, 1024)
NEIGHBORS = 16


@dataclass(frozen=True)
class Size:
    """Size of a batch of features.

    Attributes:
        batch: B, number of images.
        dim: D, width of the features.
        neighbors: K, number of neighbours; at most B - 1 are used.
    """

    batch: int
    dim: int
    neighbors: int = NEIGHBORS

    def __str__(self) -> str:
        more = "" if self.neighbors == NEIGHBORS else f", K = {self.neighbors}"
        return f"B = {self.batch}, D = {self.dim}{more}"


def _proxy_fda(size: Size) -> nn.Module:
    most = max(1, proxy_count(size.batch - 1, 0.4, size.batch))  # the plugin's number
    return ProxyFDALoss(size.dim, _k(size), max_proxies=most)


def _k(size: Size) -> int:
    return min(size.neighbors, size.batch - 1)


LOSSES: dict[str, Callable[[Size], nn.Module]] = {
    "fda": lambda size: FDALoss(_k(size)),
    "proxy-fda": _proxy_fda,
    FEW: lambda size: ProxyFDALoss(size.dim, _k(size)),
    "rkd": lambda size: RKDLoss(),
    "rift": lambda size: RIFTLoss(),
    "pkt": lambda size: PKTLoss(),
    "soft-fda": lambda size: SoftFDALoss(),
}
"""The losses as the plugins make them; and Proxy-FDA with at most 32 proxies a set."""

CHUNKED = ("fda", "proxy-fda", FEW)


class Case:
    """A loss with a batch of features.

    Args:
        name: key of :data:`LOSSES`.
        size: size of the batch.
        device: device of the loss; ``"meta"`` computes shapes without values.
    """

    def __init__(self, name: str, size: Size, device: str) -> None:
        with torch.random.fork_rng(devices=[]), torch.device(device):
            torch.manual_seed(0)
            self.student = torch.randn(size.batch, size.dim).requires_grad_()
            self.teacher = torch.randn(size.batch, size.dim)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)  # the generator's weights
            self.loss = LOSSES[name](size).to(device)

    @property
    def given(self) -> tuple[Tensor, ...]:
        """Tensors that exist before the loss is computed: features and parameters."""
        return (self.student, self.teacher, *self.loss.parameters())

    def compute(self) -> Tensor:
        """Compute the loss, a scalar tensor []."""
        with warnings.catch_warnings():  # the cap on proxies is intended
            warnings.filterwarnings("ignore", message="max_proxies=")
            result = self.loss(self.student, self.teacher)
        value: Tensor = (
            result if isinstance(result, Tensor) else result.alignment + result.generator
        )
        return value

    def step(self) -> None:
        """Compute the loss and its gradients."""
        self.student.grad = None
        self.loss.zero_grad()
        self.compute().backward()


@contextmanager
def kept_whole() -> Iterator[None]:
    """Turn off recomputation in backward within the block, however large the batch."""
    most = chunks._SAVED_WHOLE
    chunks._SAVED_WHOLE = 2**62
    try:
        yield
    finally:
        chunks._SAVED_WHOLE = most


def too_long(seconds: float | None, size: Size, last: Size | None, budget: float) -> float | None:
    """Estimate the time of a step, and return it if it exceeds the budget.

    No loss grows faster than the cube of the batch, so the estimate is an upper bound.

    Args:
        seconds: time of a step at ``last``; None before the first size.
        size: next size.
        last: previous size; None before the first size.
        budget: longest allowed time, in seconds.

    Returns:
        The estimate in seconds if it exceeds ``budget``, else None.
    """
    if seconds is None or last is None:
        return None
    expected = seconds * (size.batch / last.batch) ** 3 * size.dim / last.dim
    return expected if expected > budget else None
