"""An optimizer's state goes to the device where torch's own rule places it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from avalanche_proxyfda.checkpoint.files import read_state, write_state
from avalanche_proxyfda.checkpoint.optimizers import load_optimizer_state, optimizer_state

META = torch.device("meta")
"""A second device on every machine; it holds no numbers."""


class Scaled(nn.Module):
    """A model with a 0-dim parameter, like CLIP's ``logit_scale``."""

    def __init__(self) -> None:
        super().__init__()
        self.logit_scale = nn.Parameter(torch.tensor(2.0))
        self.linear = nn.Linear(2, 2)


KINDS: dict[str, Any] = {
    "plain": lambda p: torch.optim.AdamW(p, lr=0.1),
    "amsgrad": lambda p: torch.optim.AdamW(p, lr=0.1, amsgrad=True),
    "fused": lambda p: torch.optim.AdamW(p, lr=0.1, fused=True),
    "capturable": lambda p: torch.optim.AdamW(p, lr=0.1),
    "tensor-rate": lambda p: torch.optim.AdamW(p, lr=torch.tensor(0.1), foreach=False),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "lbfgs": lambda p: torch.optim.LBFGS(p, lr=0.1),
    "nadam": lambda p: torch.optim.NAdam(p, lr=0.1),
}


def step(model: Scaled, optimizer: Any) -> None:
    """Take a step of any optimizer; LBFGS asks for the loss itself."""

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = model.linear(torch.ones(1, 2)).square().sum() * model.logit_scale.exp()
        value.backward()
        return value

    loss()
    optimizer.step(loss)


def stepped(kind: str) -> tuple[Scaled, Any]:
    """Return a model and its optimizer after two steps."""
    model = Scaled()
    optimizer = KINDS[kind](model.parameters())

    for _ in range(2):
        step(model, optimizer)
    if kind == "capturable":  # a step of it needs an accelerator, its state does not
        optimizer.param_groups[0]["capturable"] = True
    return model, optimizer


def tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    return [t for entry in value for t in tensors(entry)] if isinstance(value, list) else []


@pytest.mark.parametrize("kind", KINDS)
def test_a_state_goes_to_the_device_that_torch_gives_it(tmp_path: Path, kind: str) -> None:
    model, optimizer = stepped(kind)
    write_state(tmp_path, optimizer_state(optimizer, model, None))
    state = read_state(tmp_path / "checkpoint.safetensors")
    moved = Scaled().to(META)
    ours = torch.optim.__dict__[type(optimizer).__name__](moved.parameters(), lr=0.1)
    theirs = torch.optim.__dict__[type(optimizer).__name__](moved.parameters(), lr=0.1)
    load_optimizer_state(ours, moved, state)
    theirs.load_state_dict(optimizer.state_dict())
    assert ours.state.keys() == theirs.state.keys() and len(ours.state) >= 1
    for parameter, entries in theirs.state.items():
        assert ours.state[parameter].keys() == entries.keys()
        for key, value in entries.items():
            found = [t.device for t in tensors(ours.state[parameter][key])]
            assert found == [t.device for t in tensors(value)], key
    if kind in ("fused", "capturable"):
        steps = [entries["step"].device for entries in ours.state.values()]
        assert steps == [META] * 3


@pytest.mark.parametrize("kind", ["plain", "fused", "tensor-rate", "nadam", "lbfgs"])
def test_a_resumed_optimizer_goes_on_bit_for_bit(tmp_path: Path, kind: str) -> None:
    torch.manual_seed(0)
    model, optimizer = stepped(kind)
    write_state(tmp_path, optimizer_state(optimizer, model, None))
    twin = Scaled()
    twin.load_state_dict(model.state_dict())
    again = KINDS[kind](twin.parameters())
    load_optimizer_state(again, twin, read_state(tmp_path / "checkpoint.safetensors"))
    for held, own in ((model, optimizer), (twin, again)):
        step(held, own)
    pairs = zip(model.parameters(), twin.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
