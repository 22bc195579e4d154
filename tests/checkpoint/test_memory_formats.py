"""A resumed training keeps the order in which its tensors lie in memory, such as channels last."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from avalanche.training.plugins import EWCPlugin
from torch import Tensor, nn

from avalanche_proxyfda import PKTPlugin
from avalanche_proxyfda.checkpoint.files import read_state, write_state
from avalanche_proxyfda.checkpoint.strategy import strategy_state
from tests.checkpoint.training import BreakOff, BrokenOffError, alike, build, train
from tests.methods import ON_WEIGHTS, accepted, toy_plugin
from tests.plugins.toys import CLASSES, classic

LAST = torch.channels_last


class Maps(nn.Module):
    """A convolution of one channel, one that is tied to a second name, and a depthwise one."""

    def __init__(self) -> None:
        super().__init__()
        middle = nn.Conv2d(4, 4, 3, padding=1)
        depthwise = nn.Conv2d(4, 4, 3, padding=1, groups=4)
        self.backbone = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), middle, depthwise, nn.Flatten()
        )
        self.tied = middle
        self.scale = nn.Parameter(torch.tensor(1.0))
        self.classifier = nn.Linear(64, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.backbone(x) * self.scale)


def channels_last() -> nn.Module:
    return Maps().to(memory_format=LAST)


OPTIMIZERS: Any = {
    "momentum": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, amsgrad=True),
}


def both(folder: Path, make: Any, optimizer: str = "adamw", check: Any = None) -> list[Any]:
    """Train unbroken, and broken off and resumed; return both strategies.

    Args:
        folder: folder of the checkpoints.
        make: returns the plugins.
        optimizer: a key of :data:`OPTIMIZERS`.
        check: is called in the last step.
    """
    stream, made = classic(2, count=60), []
    for name, steps in (("whole", [None]), ("parts", [6, None])):
        for step in steps:
            plugins = [*make(), BreakOff(step), BreakOff(7, check or (lambda: None))]
            strategy = build(channels_last, *plugins)
            strategy.optimizer = OPTIMIZERS[optimizer](strategy.model.parameters())
            made.append(strategy)
            try:
                train(strategy, stream, folder / name, every=1 if name == "parts" else None)
            except BrokenOffError:
                made.pop()
    return made


def strides_of(value: Any, path: str = "") -> dict[str, tuple[int, ...]]:
    """Return the strides of all tensors of a state, by place."""
    if isinstance(value, Tensor):
        return {path: value.stride()}
    pairs = value.items() if isinstance(value, dict) else ()
    if isinstance(value, (list, tuple)):
        pairs = enumerate(value)
    return {k: v for key, each in pairs for k, v in strides_of(each, f"{path}.{key}").items()}


def strides(strategy: Any) -> dict[str, tuple[int, ...]]:
    """Return the strides of all that a checkpoint of a strategy holds."""
    state = strategy_state(strategy)
    return strides_of({key: state[key] for key in ("model", "optimizer", "plugins")})


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_channels_last_training_resumes_to_the_same_bits(tmp_path: Path, optimizer: str) -> None:
    whole, again = both(tmp_path, list, optimizer)
    assert alike(whole, again) and strides(whole) == strides(again)
    for part in (again.model.backbone[2], again.model.backbone[3]):
        for value in (part.weight, *again.optimizer.state[part.weight].values()):
            assert value.dim() == 0 or value.is_contiguous(memory_format=LAST)
            assert value.dim() == 0 or value.stride() == part.weight.stride()
    assert again.model.tied.weight is again.model.backbone[2].weight
    held = again.optimizer.param_groups[0]["params"]
    assert {id(p) for p in held} == {id(p) for p in again.model.parameters()}


def test_a_teacher_keeps_its_format(tmp_path: Path) -> None:
    own: list[PKTPlugin] = []
    seen: list[dict[str, tuple[int, ...]]] = []

    def make() -> list[Any]:
        own.append(PKTPlugin(1.0, feature_module="backbone"))
        return own[-1:]

    def look() -> None:
        teacher = own[-1].teacher
        assert teacher is not None
        seen.append(strides_of(teacher.module.state_dict()))

    whole, again = both(tmp_path, make, check=look)
    assert alike(whole, again)
    assert len(seen) == 2 and seen[0] == seen[1]
    assert seen[1][".2.weight"] == (36, 1, 12, 4) and seen[1][".0.weight"] == (9, 1, 3, 1)


@pytest.mark.parametrize("method", [*ON_WEIGHTS, "ewc"])
def test_anchors_and_averages_keep_their_format(tmp_path: Path, method: str) -> None:
    """The order of a sum follows the order in memory, so it decides the last bits."""

    def make() -> list[Any]:
        place = accepted(method, feature_module="backbone") if method != "ewc" else {}
        return [EWCPlugin(10.0) if method == "ewc" else toy_plugin(method, **place)]

    whole, again = both(tmp_path, make)
    assert alike(whole, again) and strides(whole) == strides(again)


TENSORS = {
    "channels last": torch.arange(120.0).view(2, 3, 4, 5).to(memory_format=LAST),
    "one channel": torch.ones(4, 1, 3, 3).to(memory_format=LAST),
    "volumes": torch.randn(2, 3, 2, 2, 2).to(memory_format=torch.channels_last_3d),
    "transposed": torch.arange(6).view(2, 3).T,
    "permuted": torch.randn(2, 3, 4, dtype=torch.bfloat16).permute(1, 2, 0),
    "with an offset": torch.arange(12.0).view(4, 3)[1:].T,
}


@pytest.mark.parametrize("name", TENSORS)
def test_a_file_keeps_the_order_of_the_axes(tmp_path: Path, name: str) -> None:
    value = TENSORS[name]
    write_state(tmp_path, {"one": value, "again": [value]})
    state = read_state(tmp_path / "checkpoint.safetensors")
    for found in (state["one"], state["again"][0]):
        assert torch.equal(found, value) and found.stride() == value.stride()
    assert state["one"].data_ptr() != state["again"][0].data_ptr()


@pytest.mark.parametrize(
    "value",
    [
        torch.arange(3).expand(2, 3),
        torch.arange(12.0).view(3, 4)[:, :2],
        torch.ones(2, 0, 3).permute(2, 1, 0),
        torch.tensor(2.0),
        torch.ones(2, 3, dtype=torch.complex64).conj().imag.T,
    ],
    ids=["expanded", "cut", "empty", "scalar", "negative"],
)
def test_tensors_with_gaps_or_repeats_become_contiguous(tmp_path: Path, value: Tensor) -> None:
    write_state(tmp_path, {"value": value})
    found = read_state(tmp_path / "checkpoint.safetensors")["value"]
    assert torch.equal(found, value) and found.is_contiguous()
