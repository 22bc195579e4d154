"""State of an optimizer by parameter name; growing heads replace the parameters themselves."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from avalanche_proxyfda.checkpoint.files import CheckpointError

Known = dict[str, nn.Parameter]
"""Parameters by name."""


def optimizer_state(
    optimizer: torch.optim.Optimizer, model: nn.Module, optimized: Known | None
) -> dict[str, Any]:
    """Return the groups with their options, and the state of each parameter.

    Args:
        optimizer: the optimizer of the strategy.
        model: the strategy's model, unwrapped.
        optimized: the parameters that Avalanche says the optimizer holds, by name. When a head
            grows in an evaluation, the optimizer keeps the old parameter under the same name
            until the next training.

    Raises:
        CheckpointError: if the optimizer holds a tensor that is no parameter of the model.
    """
    present = dict(model.named_parameters())
    stale = {n: p for n, p in (optimized or {}).items() if present.get(n) is not p}
    names = {id(p): n for n, p in (*stale.items(), *model.named_parameters())}

    def name_of(parameter: Tensor) -> str:
        if id(parameter) not in names:
            raise CheckpointError(
                f"the strategy's optimizer holds a tensor of shape {tuple(parameter.shape)}, no "
                "parameter of the model: give it an optimizer of its own, in a plugin with "
                "state_dict() and load_state_dict(); or, if a head grew in an evaluation before "
                "the first training, build Checkpoints before that evaluation"
            )
        return names[id(parameter)]

    return {
        "class": type(optimizer).__qualname__,
        "groups": [
            {**group, "params": [name_of(p) for p in group["params"]]}
            for group in optimizer.param_groups
        ],
        "state": {name_of(p): dict(entries) for p, entries in optimizer.state.items()},
        "stale": {name: p.detach() for name, p in stale.items()},
        "optimized": None if optimized is None else list(optimized),
    }


def load_optimizer_state(
    optimizer: torch.optim.Optimizer, model: nn.Module, state: Mapping[str, Any]
) -> Known | None:
    """Load groups, options and states for the parameters that ``model`` has now.

    ``state`` may be loaded again. Tensors go to the device of their parameter. Counts of steps
    stay on the CPU, unless the optimizer is fused or capturable: the rule of torch's
    ``Optimizer.load_state_dict``.

    Args:
        optimizer: the optimizer of the strategy.
        model: the strategy's model, unwrapped.
        state: the result of :func:`optimizer_state`.

    Returns:
        The parameters that the optimizer holds, by Avalanche's names; None if none were saved.

    Raises:
        CheckpointError: for another class of optimizer, or if ``model`` lacks a parameter.
    """
    kind = type(optimizer).__qualname__
    if state["class"] != kind:
        raise CheckpointError(
            f"the checkpoint's optimizer is {state['class']}, the strategy's is {kind}: build the "
            "strategy as before"
        )
    named: Known = dict(model.named_parameters())
    device = next(iter(named.values())).device
    named |= {n: nn.Parameter(v.to(device, copy=True)) for n, v in state["stale"].items()}
    absent = [n for group in state["groups"] for n in group["params"] if n not in named]
    if absent:
        raise CheckpointError(
            f"the checkpoint's optimizer holds {absent[0]!r}, which the model lacks"
        )
    optimizer.param_groups.clear()
    steps_on_device: set[str] = set()  # names of parameters
    for group in state["groups"]:
        held = [named[n] for n in group["params"]]
        rates_on = None  # a rate may be a tensor
        if group.get("fused") or group.get("capturable"):  # torch's rule
            steps_on_device.update(group["params"])
            rates_on = device
        options = {key: _copied(value, rates_on) for key, value in group.items()}
        optimizer.param_groups.append({**options, "params": held})

    def stays(name: str, key: str) -> bool:
        return key == "step" and name not in steps_on_device

    states: Any = defaultdict(dict)
    for name, entries in state["state"].items():
        states[named[name]] = {
            key: _copied(value, None if stays(name, key) else named[name].device)
            for key, value in entries.items()
        }
    optimizer.state = states
    return None if state["optimized"] is None else {n: named[n] for n in state["optimized"]}


def _copied(value: Any, device: torch.device | None) -> Any:
    """Return a copy of a state with its tensors on ``device``; None leaves them where they are."""
    if isinstance(value, Tensor):
        return value.to(value.device if device is None else device, copy=True)
    if type(value) in (list, tuple):
        return type(value)(_copied(entry, device) for entry in value)
    return value
