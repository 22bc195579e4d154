"""A panel moment on an accelerator, counted: operations, waits, products, and memory.

torch's meta device runs shapes without numbers, so the counts hold at full size on every machine.
The solver of the probe needs numbers: its operations for each evaluation of the loss do not
depend on the size, and are counted on a small probe. docs/performance.md states the estimate.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from avalanche_proxyfda._float64 import WORKSPACE
from avalanche_proxyfda.features import linear_probe
from avalanche_proxyfda.features.linear_probe import Probe
from avalanche_proxyfda.features.probe_loss import PartsProbeLoss, Slopes
from avalanche_proxyfda.metrics.drift import count_shared
from avalanche_proxyfda.metrics.drift_in_parts import alignment_in_parts, distance_in_parts
from avalanche_proxyfda.metrics.knn import count_hits

SETS, COUNT, WIDTH, CLASSES = 10, 5000, 768, 100
FITS = 5  # four penalties, and the fit with the images that were held out
EVALUATIONS, MOST_EVALUATIONS = 60, 375  # of a fit: typical, and where L-BFGS stops
LAUNCH, WAIT = 8e-6, 20e-6  # seconds of an operation on the host, and of a wait for the device
PRODUCTS, MEMORY = 5e12, 5e11  # float64 operations and bytes a second: half an A100's
PASSES = {"topk": 20, "sort": 20}  # over the memory, in one operation
VIEWS = {
    *("view", "t", "transpose", "permute", "slice", "detach", "unsqueeze", "expand", "split"),
    *("select", "diagonal", "alias", "_unsafe_view"),
}


@dataclass(frozen=True)
class Cost:
    """Operations without views, waits, flops of matrix products, and bytes read and written."""

    launches: int = 0
    waits: int = 0
    flops: int = 0
    traffic: int = 0

    def __add__(self, other: Cost) -> Cost:
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return Cost(*(mine + theirs for mine, theirs in pairs))

    def __mul__(self, times: int) -> Cost:
        return Cost(*(part * times for part in vars(self).values()))

    @property
    def seconds(self) -> float:
        """Estimate: nothing overlaps."""
        host = self.launches * LAUNCH + self.waits * WAIT
        return host + self.flops / PRODUCTS + self.traffic / MEMORY


class Counted(TorchDispatchMode):
    """Counts the cost of operations, and the most bytes that they hold."""

    def __init__(self) -> None:
        super().__init__()
        self.cost, self.now, self.peak = Cost(), 0, 0
        self._known: dict[int, int] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        name = name_of(func)
        if name not in VIEWS:
            made = [out] if isinstance(out, Tensor) else list(out)
            first = args[0] if isinstance(args[0], list) else args
            given = [t for t in first if isinstance(t, Tensor)]
            moved = sum(t.numel() * t.element_size() for t in (*given, *made))
            # the last two of mm and addmm are multiplied
            flops = 2 * given[-2].numel() * given[-1].shape[1] if name in ("mm", "addmm") else 0
            self.cost += Cost(1, 0, flops, moved * PASSES.get(name, 1))
            self._hold(given, made)
        return out

    def _hold(self, given: list[Tensor], made: list[Tensor]) -> None:
        old = {t.untyped_storage()._cdata for t in given}
        for storage in (t.untyped_storage() for t in made):
            if storage._cdata not in old and storage._cdata not in self._known:
                self._known[storage._cdata] = storage.nbytes()
                self.now += storage.nbytes()
                weakref.finalize(storage, self._free, storage._cdata)
        self.peak = max(self.peak, self.now)

    def _free(self, key: int) -> None:
        self.now -= self._known.pop(key)


class Named(TorchDispatchMode):
    """Counts launches and waits alone, which is faster."""

    def __init__(self) -> None:
        super().__init__()
        self.launches = self.waits = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.waits += func is WAITING
        self.launches += func is not WAITING and name_of(func) not in VIEWS
        return func(*args, **(kwargs or {}))


WAITING = torch.ops.aten._local_scalar_dense.default


def name_of(func: Any) -> str:
    name: str = func.overloadpacket.__name__
    return name.rstrip("_")


@cache
def counted(name: str, count: int = COUNT) -> Counted:
    work = (MEASURES | PARTS_OF_A_PROBE)[name]
    with Counted() as mode:
        work(count)
    return mode


def meta(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.zeros(shape, dtype=dtype, device="meta")


def rows(count: int) -> tuple[Tensor, Tensor]:
    return meta(count, WIDTH), meta(count, dtype=torch.int64)


def probe_loss(count: int) -> PartsProbeLoss:
    return PartsProbeLoss(*rows(count), CLASSES, 1e-3, True)


WEIGHTS = meta(CLASSES, WIDTH, dtype=torch.float64), meta(CLASSES, dtype=torch.float64)
MEASURES: dict[str, Callable[[int], object]] = {
    "k-NN": lambda n: count_hits(rows(n), rows(n), CLASSES, 20, 0.07),
    "neighbours": lambda n: count_shared(meta(n, WIDTH), meta(n, WIDTH), 10),
    "L2": lambda n: distance_in_parts(meta(n, WIDTH), meta(n, WIDTH)),
    "CKA": lambda n: alignment_in_parts(meta(n, WIDTH), meta(n, WIDTH)),
}
PARTS_OF_A_PROBE: dict[str, Callable[[int], object]] = {
    "rows": probe_loss,
    "rows and loss": lambda n: probe_loss(n)(*WEIGHTS),
    "accuracy": lambda n: Probe(*WEIGHTS, 1e-3).hits(*rows(n)),
}


def solver() -> Cost:
    """Cost of L-BFGS for each evaluation of the loss, without the loss, with a full history."""
    size = torch.arange(1, 17)
    features = torch.randn(100, 16, generator=torch.Generator().manual_seed(0)) / size.sqrt() + 1
    loss = PartsProbeLoss(features, torch.arange(100) % 3, 3, 1e-4, True)
    inside: list[int] = []

    def call(weight: Tensor, bias: Tensor) -> Slopes:
        with Named() as mode:
            slopes = loss(weight, bias)
        inside.append(mode.launches)
        return slopes

    zeros = torch.zeros(3, 17, dtype=torch.float64)
    with Named() as mode:
        linear_probe._minimum(call, zeros[:, :16].clone(), zeros[:, 16].clone(), True)
    assert 40 < len(inside) < MOST_EVALUATIONS  # the history of 20 is full most of the time
    launches = mode.launches - sum(inside)
    return Cost(-(-launches // len(inside)), -(-mode.waits // len(inside)))


def moment(evaluations: int, each: Cost) -> Cost:
    """Ten sets: k-NN, drift, and probes with so many evaluations of their loss a fit."""
    cost = sum((counted(name).cost for name in MEASURES), Cost())
    made, called, accuracy = (counted(name).cost for name in PARTS_OF_A_PROBE)
    loss = Cost(*(b - a for a, b in zip(vars(made).values(), vars(called).values(), strict=True)))
    checks = Cost(waits=20)  # of inputs, and the results
    fit = made + (loss + each) * evaluations + accuracy + checks
    return (cost + checks + fit * FITS) * SETS


def test_products_follow_the_formula() -> None:
    n, d, c = COUNT, WIDTH, CLASSES
    expected = {
        "k-NN": 2 * n * n * d,
        "neighbours": 4 * n * n * d,
        "L2": 0,
        "CKA": 6 * n * d * d,
        "rows": 0,
        "rows and loss": 4 * n * d * c,
        "accuracy": 2 * n * d * c,
    }
    found = {name: counted(name).cost.flops for name in expected}
    assert found == expected


@pytest.mark.parametrize("count", [COUNT, 2 * COUNT])
def test_memory_is_bounded(count: int) -> None:
    features = 8 * count * WIDTH  # both sides in float32
    names = [*MEASURES, *PARTS_OF_A_PROBE]
    for name in names[1:] if count > COUNT else names:  # k-NN takes longest to count
        peak = counted(name, count).peak
        assert 4 * count * WIDTH < peak <= features + 4 * WORKSPACE // 3, name
        assert count > COUNT or peak < 2 * 10**8 + features, name


@pytest.mark.parametrize("name", ["k-NN", "neighbours"])
def test_memory_is_bounded_for_wide_features(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy of one side in float64 would take 458 MiB."""
    monkeypatch.setitem(globals(), "WIDTH", 40 * 768)
    with Counted() as mode:
        MEASURES[name](2000)
    assert mode.peak <= 8 * 2000 * WIDTH + WORKSPACE


def test_a_moment_takes_less_than_a_minute() -> None:
    each = solver()
    typical, most = moment(EVALUATIONS, each), moment(MOST_EVALUATIONS, each)
    assert 5 < typical.seconds < 12
    assert most.seconds < 60
    assert each.launches <= 170 and each.waits <= 40  # for an evaluation
