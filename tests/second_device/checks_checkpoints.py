"""Checkpoints of trainings on the second device."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from avalanche.training.plugins import (
    EWCPlugin,
    MASPlugin,
    RWalkPlugin,
    SynapticIntelligencePlugin,
)
from torch import Tensor

from avalanche_proxyfda import Checkpoints
from avalanche_proxyfda._random import RandomState
from avalanche_proxyfda.checkpoint.files import LATEST, PREVIOUS
from avalanche_proxyfda.checkpoint.objects import attributes_of
from avalanche_proxyfda.checkpoint.tree import encode
from tests.checkpoint.test_diverged import diverge, steps_of
from tests.checkpoint.test_memory_formats import channels_last, strides
from tests.checkpoint.training import BreakOff, BrokenOffError, alike, build, train
from tests.methods import PLUGINS, toy_plugin
from tests.plugins.toys import Plain, classic


def both(
    make: Callable[[], Any], step: int, second: torch.device, folder: Path, model: Any = Plain
) -> list[Any]:
    """Train two experiences, unbroken and broken off; return the plugins of both trainings."""
    benchmark, kept = classic(count=60), []

    def built(step: int | None) -> Any:
        kept.append(make())
        return build(model, kept[-1], BreakOff(step), device=second)

    start = RandomState.capture(second)
    whole = train(built(None), benchmark, folder / "whole", every=None)
    start.restore()
    with pytest.raises(BrokenOffError):
        train(built(step), benchmark, folder / "parts", every=1)
    torch.rand(3, device=second)  # another process has another stream
    rest = train(built(None), benchmark, folder / "parts", every=1)
    assert strides(whole) == strides(rest)
    for one in (whole, rest):
        one.model.cpu()
        for held in one.optimizer.state_dict()["state"].values():
            held.update({name: value.cpu() for name, value in held.items()})
    assert alike(whole, rest)
    return [kept[0], kept[2]]


def tensors_of(plugin: Any) -> dict[str, Tensor]:
    """Return the tensors that a checkpoint keeps of a plugin without ``state_dict``."""
    found: dict[str, Tensor] = {}
    encode(attributes_of(plugin, "plugin"), found, "plugin")
    return found


AVALANCHES: Any = {
    "ewc": lambda: EWCPlugin(100.0),
    "ewc-online": lambda: EWCPlugin(100.0, mode="online", decay_factor=0.5),
    "mas": lambda: MASPlugin(1.0),
    "rwalk": lambda: RWalkPlugin(1.0, delta_t=2),
    "si": lambda: SynapticIntelligencePlugin(100.0),
}


@pytest.mark.parametrize("step", [3, 6])
@pytest.mark.parametrize("name", AVALANCHES)
def test_avalanches_own_methods_on_weights_resume(
    name: str, step: int, second: torch.device, tmp_path: Path
) -> None:
    kept, come_back = map(tensors_of, both(AVALANCHES[name], step, second, tmp_path))
    assert kept.keys() == come_back.keys() and any(bool(v.any()) for v in kept.values())
    for key, value in kept.items():
        assert come_back[key].device == value.device
        assert torch.equal(value.cpu(), come_back[key].cpu())


@pytest.mark.filterwarnings("ignore:An output with one or more elements was resized")
@pytest.mark.parametrize("name", PLUGINS)
def test_a_method_resumes(name: str, second: torch.device, tmp_path: Path) -> None:
    both(lambda: toy_plugin(name), 6, second, tmp_path)


def test_a_channels_last_training_resumes(second: torch.device, tmp_path: Path) -> None:
    both(lambda: toy_plugin("pkt", feature_module="backbone"), 6, second, tmp_path, channels_last)


@pytest.mark.parametrize("every", [None, 1])
def test_a_step_with_nan_is_not_saved(
    every: int | None, second: torch.device, tmp_path: Path
) -> None:
    """The last step of an experience is saved before the end of the epoch, where plugins check."""
    own = toy_plugin("pkt", teacher_cache="exact")
    diverge(own, 3, tmp_path, every=every, built={"device": second})
    assert steps_of(tmp_path) == ({} if every is None else {LATEST: 3, PREVIOUS: 2})


class Brighten(BreakOff):
    """Changes the images of one step on the device, where the teacher's cache has named them."""

    def before_forward(self, strategy: Any, **kwargs: Any) -> None:
        if strategy.clock.train_iterations == self.step:
            strategy.mbatch[0].data.add_(1)  # torch does not count this change

    def before_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        pass


def test_a_step_with_other_images_than_the_cached_is_not_saved(
    second: torch.device, tmp_path: Path
) -> None:
    strategy = build(Plain, toy_plugin("pkt", teacher_cache="exact"), Brighten(2), device=second)
    Checkpoints(strategy, tmp_path, every=1)
    with pytest.raises(ValueError, match="images were changed on their way"):
        strategy.train(classic(1, count=48).train_stream[0], eval_streams=[])
    assert steps_of(tmp_path) == {LATEST: 2, PREVIOUS: 1}


@pytest.mark.parametrize("saved_on_cpu", [True, False], ids=["from the CPU", "to the CPU"])
@pytest.mark.parametrize("make", AVALANCHES.values(), ids=AVALANCHES)
def test_avalanches_own_methods_resume_on_another_device(
    make: Callable[[], Any], saved_on_cpu: bool, second: torch.device, tmp_path: Path
) -> None:
    benchmark, cpu = classic(count=60), torch.device("cpu")
    first, then = (cpu, second) if saved_on_cpu else (second, cpu)
    broken_off = build(Plain, make(), BreakOff(6), device=first)
    with pytest.raises(BrokenOffError):
        train(broken_off, benchmark, tmp_path, every=1)
    moved = build(Plain, make(), BreakOff(None), device=then)
    rest = train(moved, benchmark, tmp_path, every=1)
    assert rest.clock.train_iterations > 6
    assert all(value.device.type == then.type for value in rest.model.state_dict().values())
