"""Every plugin on the second device: it trains as on the CPU, with each kind of head and cache."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from avalanche.training.plugins import SupervisedPlugin
from torch import Tensor

from avalanche_proxyfda import EfficientNaive
from tests.methods import ON_REFERENCE, PLUGINS, WITH_CACHE, accepted, toy_plugin
from tests.plugins.toys import Growing, Multi, Plain, classic, learn, strategy, tasks
from tests.second_device import device as counts

OTHERS = ("fda-bank", "fda-online", "proxy-fda-chunks", "rift-procrustes", "rift-learned")
"""Variants of methods with other code on a device."""
SIZES: Mapping[str, Any] = {"train_mb_size": 12, "eval_mb_size": 60}


def still(kind: Any = Plain) -> Any:
    """Return a model without dropout, which draws from the stream of its device."""
    model = kind()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return model


def trained(
    own: Any, place: torch.device | str, benchmark: Any, model: Any = Plain, **options: Any
) -> dict[str, Tensor]:
    """Train on all experiences; return the final values on the CPU."""
    torch.manual_seed(0)
    made = strategy(still(model), own, device=torch.device(place), **{**SIZES, **options})
    return {name: value.cpu() for name, value in learn(made, benchmark).items()}


def close(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> None:
    """Assert that two results of :func:`trained` are equal up to rounding."""
    assert one.keys() == other.keys()
    for name, value in one.items():
        torch.testing.assert_close(other[name], value, rtol=1e-3, atol=1e-5)


@pytest.mark.filterwarnings("ignore:An output with one or more elements was resized")
@pytest.mark.parametrize("name", [*PLUGINS, *OTHERS])
def test_a_plugin_trains_as_on_the_cpu(name: str, second: torch.device) -> None:
    options = accepted(name, teacher_cache="off")
    benchmark = classic(count=48)
    on_host = trained(toy_plugin(name, **options), "cpu", benchmark)
    close(on_host, trained(toy_plugin(name, **options), second, benchmark))
    assert sum(counts.operations().values()) > 100


@pytest.mark.parametrize("method", ["fda", "lwf"])
@pytest.mark.parametrize(
    ("model", "make"), [(Growing, classic), (Multi, tasks)], ids=["growing", "multi"]
)
def test_heads_that_grow(method: str, model: Any, make: Any, second: torch.device) -> None:
    benchmark = make()
    on_host = trained(toy_plugin(method), "cpu", benchmark, model)
    close(on_host, trained(toy_plugin(method), second, benchmark, model))


@pytest.mark.parametrize("method", [name for name in WITH_CACHE if name not in ON_REFERENCE])
def test_a_cached_teacher_trains_as_a_live_one(method: str, second: torch.device) -> None:
    benchmark = classic(2, count=48)
    finals = {}
    for choice in ("off", "exact"):
        own = toy_plugin(method, teacher_cache=choice)
        finals[choice] = trained(own, second, benchmark, train_epochs=3)
        # two experiences of 24 images; Learning without Forgetting begins with the second
        expected = 48 if method == "lwf" else 96
        assert own.cache_hits == (expected if choice == "exact" else 0)
    close(finals["off"], finals["exact"])


class RefuseWaits(SupervisedPlugin[Any]):
    """Refuses waits of the host from the second step of each epoch to the end of the last."""

    def __init__(self) -> None:
        super().__init__()
        self._steps = self.refused = 0

    def before_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
        self._steps = 0

    def before_forward(self, strategy: Any, **kwargs: Any) -> None:
        self._steps += 1
        if self._steps == 2:
            torch.ops.second_device.refuse_waits(True)
        self.refused += self._steps >= 2

    def after_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        if self._steps == len(strategy.dataloader):
            torch.ops.second_device.refuse_waits(False)


@pytest.mark.filterwarnings("ignore:An output with one or more elements was resized")
@pytest.mark.parametrize("name", [*PLUGINS, "rift-learned"])
def test_no_step_waits_for_the_device(name: str, second: torch.device) -> None:
    """A training step of a method, with a cache if it has one, reads nothing of the device."""
    own = toy_plugin(name, **accepted(name, teacher_cache="exact"))
    look = RefuseWaits()
    made = strategy(still(), own, look, device=second, **SIZES, train_epochs=2)
    try:
        for experience in classic(count=96).train_stream:
            made.train(experience, eval_streams=[], pin_memory=True)
    finally:
        torch.ops.second_device.refuse_waits(False)
    assert look.refused == 12  # two experiences of two epochs of four steps


@pytest.mark.parametrize(("method", "precision"), [("proxy-fda", "fp16"), ("ldifs", "bf16")])
def test_mixed_precision_with_accumulation(
    method: str, precision: str, second: torch.device
) -> None:
    own = toy_plugin(method, **accepted(method, graph_from="accumulated"))
    options = {"kind": EfficientNaive, "precision": precision, "accumulate": 2}
    final = trained(own, second, classic(1, count=48), **options)
    assert all(bool(value.isfinite().all()) for value in final.values())
    assert final["backbone.1.weight"].dtype == torch.float32
