"""Methods on a device without float64, as Apple's and some of Intel's are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from avalanche_proxyfda._float64 import float64_device
from avalanche_proxyfda.distributed.ranks import Shard
from avalanche_proxyfda.plugins.base import terms
from avalanche_proxyfda.plugins.base.auto_weight import drifted
from avalanche_proxyfda.plugins.base.terms import TermLog
from avalanche_proxyfda.plugins.base.weighted import WeightedPlugin
from tests.methods import PLUGINS, toy_plugin
from tests.plugins.toys import classic
from tests.second_device import device as counts
from tests.second_device.checks_plugins import trained

WEIGHTED = tuple(name for name, kind in PLUGINS.items() if issubclass(kind, WeightedPlugin))
"""Methods whose terms may have an automatic weight."""


class WithoutFloat64(TorchDispatchMode):
    """Raises TypeError where an operation takes or gives a float64 tensor of the device."""

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        for value in tree_leaves((args, kwargs, result)):
            if not isinstance(value, Tensor) or value.dtype != torch.float64:
                continue
            if value.device.type == counts.NAME:
                raise TypeError(f"{function}: the device has no float64")
        return result


@pytest.fixture
def without(second: torch.device) -> Iterator[torch.device]:
    """Yield the device, which refuses float64."""
    float64_device.cache_clear()
    try:
        with WithoutFloat64():
            yield second
    finally:
        float64_device.cache_clear()


def test_the_mode_refuses_float64(without: torch.device) -> None:
    with pytest.raises(TypeError, match="no float64"):
        torch.ones(2, device=without).double()
    with pytest.raises(TypeError, match="no float64"):
        torch.ones(2, dtype=torch.float64).to(without)
    assert float64_device(without) == torch.device("cpu")
    assert torch.ones(2, device=without).cpu().double().dtype == torch.float64


@pytest.mark.filterwarnings("ignore:An output with one or more elements was resized")
@pytest.mark.parametrize("name", PLUGINS)
def test_a_method_trains_without_float64(name: str, without: torch.device) -> None:
    final = trained(toy_plugin(name), without, classic(count=48))
    assert all(bool(value.isfinite().all()) for value in final.values())


@pytest.mark.filterwarnings("ignore:An output with one or more elements was resized")
@pytest.mark.parametrize("name", WEIGHTED)
def test_an_automatic_weight_needs_no_float64(name: str, without: torch.device) -> None:
    """The scale and the weights are those of the CPU, to rounding."""
    ends = []
    for place in ("cpu", without):
        own = toy_plugin(name, strength="auto")
        final = trained(own, place, classic(count=48))
        assert all(bool(value.isfinite().all()) for value in final.values())
        ends.append({prefix: each.unit for prefix, each in own.constraints.items()})
    assert ends[0] and ends[1] == pytest.approx(ends[0], rel=1e-3)


def test_a_drift_is_that_of_the_cpu(without: torch.device) -> None:
    rows = torch.randn(6, 4, generator=torch.Generator().manual_seed(3))
    moved = drifted(rows.to(without), 0.5)
    assert moved.device == without and moved.dtype == torch.float32
    assert torch.equal(moved.cpu(), drifted(rows, 0.5))


def test_sums_over_ranks_need_no_float64(
    without: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The paths of several ranks, in a group of one."""
    monkeypatch.setattr(terms, "active", lambda: True)
    log = TermLog()
    for value in (0.1, 1.1, 2.1):
        log.add({"a": torch.tensor(value, device=without)}, 1.0)
    assert log.means()["a"] == pytest.approx(1.1)
    own = toy_plugin("ldifs", strength="auto")
    own._shard = Shard(0, 1, 6)
    pair = (torch.tensor(0.3, device=without), torch.tensor(2.0, device=without))
    assert [float(value.cpu()) for value in own._whole(*pair)] == pytest.approx([0.3, 2.0])
    assert all(value.device == without for value in own._whole(*pair))
