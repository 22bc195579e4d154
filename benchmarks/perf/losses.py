"""The losses on features alone: which are measured, at which sizes."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from avalanche_proxyfda import FDALoss, ProxyFDALoss, RIFTLoss, RKDLoss
from avalanche_proxyfda.losses import chunks
from avalanche_proxyfda.losses.proxies import proxy_count

BATCHES = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
DIMS = (512, 768, 1024)
NEIGHBORS = 16
FEW = "proxy-fda, 32 proxies"


@dataclass(frozen=True)
class Size:
    """Of a batch of features.

    Attributes:
        batch: B.
        dim: D.
        neighbors: K; clamped to B - 1.
    """

    batch: int
    dim: int
    neighbors: int = NEIGHBORS

    def __str__(self) -> str:
        more = "" if self.neighbors == NEIGHBORS else f", K = {self.neighbors}"
        return f"B = {self.batch}, D = {self.dim}{more}"


def _proxy_fda(size: Size) -> nn.Module:
    most = max(32, proxy_count(size.batch - 1, 0.4, size.batch))  # as the plugin has it
    return ProxyFDALoss(size.dim, _k(size), max_proxies=most)


def _k(size: Size) -> int:
    return min(size.neighbors, size.batch - 1)


LOSSES: dict[str, Callable[[Size], nn.Module]] = {
    "fda": lambda size: FDALoss(_k(size)),
    "proxy-fda": _proxy_fda,
    FEW: lambda size: ProxyFDALoss(size.dim, _k(size)),
    "rkd": lambda size: RKDLoss(),
    "rift": lambda size: RIFTLoss(),
}
"""As the plugins make them; and Proxy-FDA with 32 proxies a set at most, as for B = 98."""

CHUNKED = ("fda", "proxy-fda", FEW)


class Case:
    """A loss with a batch of features.

    Args:
        name: of :data:`LOSSES`.
        size: of the batch.
        device: where; ``"meta"`` computes shapes alone.
    """

    def __init__(self, name: str, size: Size, device: str) -> None:
        with torch.random.fork_rng(devices=[]), torch.device(device):
            torch.manual_seed(0)
            self.student = torch.randn(size.batch, size.dim).requires_grad_()
            self.teacher = torch.randn(size.batch, size.dim)
        self.loss = LOSSES[name](size).to(device)

    @property
    def given(self) -> tuple[Tensor, ...]:
        """What is there anyway."""
        return (self.student, self.teacher, *self.loss.parameters())

    def compute(self) -> Tensor:
        """The loss, a scalar."""
        with warnings.catch_warnings():  # of the cap on proxies, which is what is meant
            warnings.filterwarnings("ignore", message="max_proxies=")
            made = self.loss(self.student, self.teacher)
        value: Tensor = made if isinstance(made, Tensor) else made.alignment + made.generator
        return value

    def step(self) -> None:
        """Forward and backward."""
        self.student.grad = None
        self.loss.zero_grad()
        self.compute().backward()


@contextmanager
def kept_whole() -> Iterator[None]:
    """In this block nothing is computed again in backward, however large the batch."""
    most = chunks._KEPT
    chunks._KEPT = 2**62
    try:
        yield
    finally:
        chunks._KEPT = most


def too_long(seconds: float | None, size: Size, last: Size | None, budget: float) -> float | None:
    """Seconds that ``size`` may take after ``last`` took ``seconds``, where that is too long.

    No loss here grows faster than the cube of the batch.
    """
    if seconds is None or last is None:
        return None
    expected = seconds * (size.batch / last.batch) ** 3 * size.dim / last.dim
    return expected if expected > budget else None
