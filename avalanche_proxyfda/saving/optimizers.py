"""The state of an optimizer by the names of its parameters, which growing heads change."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from avalanche_proxyfda.saving.files import CheckpointError

Known = dict[str, nn.Parameter]


def optimizer_state(
    optimizer: torch.optim.Optimizer, model: nn.Module, optimized: Known | None
) -> dict[str, Any]:
    """Groups with their options, and what the optimizer remembers of each parameter.

    Args:
        optimizer: of the strategy.
        model: unwrapped.
        optimized: Avalanche's names of what the optimizer holds. A head that grew in an
            evaluation is not in the optimizer until the next training; what it was before still
            is, under the same name.

    Raises:
        CheckpointError: when it holds a tensor that has no name.
    """
    stale = {
        n: p for n, p in (optimized or {}).items() if dict(model.named_parameters()).get(n) is not p
    }
    names = {id(p): n for n, p in (*stale.items(), *model.named_parameters())}

    def name_of(parameter: Tensor) -> str:
        if id(parameter) not in names:
            raise CheckpointError(
                f"the strategy's optimizer holds a tensor of shape {tuple(parameter.shape)}, no "
                "parameter of the model: give it an optimizer of its own, in a plugin with "
                "state_dict() and load_state_dict()"
            )
        return names[id(parameter)]

    return {
        "class": type(optimizer).__qualname__,
        "groups": [
            {**group, "params": [name_of(p) for p in group["params"]]}
            for group in optimizer.param_groups
        ],
        "state": {name_of(p): dict(held) for p, held in optimizer.state.items()},
        "stale": {name: p.detach() for name, p in stale.items()},
        "optimized": None if optimized is None else list(optimized),
    }


def load_optimizer_state(
    optimizer: torch.optim.Optimizer, model: nn.Module, state: Mapping[str, Any]
) -> Known | None:
    """Put groups, options and memory in place, for the parameters that ``model`` has now.

    Returns:
        Avalanche's names of what the optimizer holds.

    Raises:
        CheckpointError: for another kind of optimizer, or a parameter that is not there.
    """
    kind = type(optimizer).__qualname__
    if state["class"] != kind:
        raise CheckpointError(f"the checkpoint is of {state['class']}, the strategy has {kind}")
    named: Known = dict(model.named_parameters())
    device = next(iter(named.values())).device
    named |= {n: nn.Parameter(v.to(device, copy=True)) for n, v in state["stale"].items()}
    absent = [n for group in state["groups"] for n in group["params"] if n not in named]
    if absent:
        raise CheckpointError(f"the checkpoint's optimizer holds {absent[0]!r}, the model does not")
    optimizer.param_groups.clear()
    for group in state["groups"]:
        optimizer.param_groups.append({**group, "params": [named[n] for n in group["params"]]})
    held: Any = defaultdict(dict)
    for name, entries in state["state"].items():
        held[named[name]] = {key: _near(value, named[name]) for key, value in entries.items()}
    optimizer.state = held
    return None if state["optimized"] is None else {n: named[n] for n in state["optimized"]}


def _near(value: Any, parameter: Tensor) -> Any:
    # step counts stay on the CPU, where torch keeps them unless it is told otherwise
    if isinstance(value, Tensor):
        return value.clone() if value.ndim == 0 else value.to(parameter.device, copy=True)
    return value
