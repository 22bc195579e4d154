"""Plugins on a device without float64, such as Apple's: no operation on it has this type."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from avalanche_proxyfda._float64 import float64_device
from tests.methods import PLUGINS, accepted, toy_plugin
from tests.plugins.toys import classic
from tests.second_device.checks_plugins import trained

AUTO = ("fda", "proxy-fda", "ldifs", "pkt", "soft-fda", "rkd", "rift", "lwf")


class WithoutFloat64(TorchDispatchMode):
    """Refuses every operation that has or gives a float64 tensor on the device."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None):  # type: ignore[no-untyped-def]
        result = function(*args, **(kwargs or {}))
        for leaf in tree_leaves((args, kwargs, result)):
            if isinstance(leaf, Tensor) and (leaf.device.type, leaf.dtype) == (
                self.kind,
                torch.float64,
            ):
                raise TypeError(f"{function}: the device has no float64")
        return result


@pytest.fixture
def narrow(second: torch.device) -> Iterator[torch.device]:
    """Return the second device without float64."""
    float64_device.cache_clear()
    with WithoutFloat64(second.type):
        yield second
    float64_device.cache_clear()


def test_the_device_refuses_float64(narrow: torch.device) -> None:
    with pytest.raises(TypeError, match="the device has no float64"):
        torch.ones(2, device=narrow).double()
    assert float64_device(narrow).type == "cpu"


@pytest.mark.filterwarnings("ignore:An output with one or more elements was resized")
@pytest.mark.parametrize("name", PLUGINS)
def test_a_plugin_trains_without_float64(name: str, narrow: torch.device) -> None:
    final = trained(toy_plugin(name, **accepted(name)), narrow, classic(count=48))
    assert all(bool(value.isfinite().all()) for value in final.values())


@pytest.mark.filterwarnings("ignore:.*weight='auto'")
@pytest.mark.parametrize("name", AUTO)
def test_an_automatic_weight_works_without_float64(name: str, narrow: torch.device) -> None:
    own = toy_plugin(name, weight="auto")
    final = trained(own, narrow, classic(count=48))
    assert all(bool(value.isfinite().all()) for value in final.values())
    assert own.constraints and all(c.unit > 0 for c in own.constraints.values())
