"""Looks at all micro-batches of an optimizer step before the first of them is trained on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


class RandomState:
    """torch's random streams, as they stand on the CPU and on ``device``."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._states = self._read()

    def _read(self) -> tuple[torch.Tensor, ...]:
        own = torch.get_rng_state()
        if self._device.type == "cuda":
            return own, torch.cuda.get_rng_state(self._device)
        return (own,)

    def _write(self, states: Sequence[torch.Tensor]) -> None:
        torch.set_rng_state(states[0])
        for state in states[1:]:
            torch.cuda.set_rng_state(state, self._device)

    @contextmanager
    def again(self) -> Iterator[None]:
        """Draw the same numbers again; the streams then go on as if nothing was drawn."""
        now = self._read()
        self._write(self._states)
        try:
            yield
        finally:
            self._write(now)


@contextmanager
def kept_buffers(model: nn.Module) -> Iterator[None]:
    """Put buffers back: BatchNorm's statistics must count a batch once."""
    before = [(buffer, buffer.clone()) for buffer in model.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in before:
                buffer.copy_(value)


def look_ahead(strategy: Any, group: Sequence[Any]) -> list[RandomState | None]:
    """Let plugins with ``graph_from="accumulated"`` see every micro-batch of a step.

    Gradients of a loss over the whole step are needed in each micro-batch, which is trained on
    before the next is seen. So the features are computed before, without gradient, once more.

    Args:
        strategy: about to train on ``group``; its ``mbatch`` is left at the last of it.
        group: micro-batches as the loader gave them.

    Returns:
        For each micro-batch the random state that its forward must repeat, so that dropout
        leaves out the same; None where nobody looked.
    """
    plugins = [p for p in strategy.plugins if getattr(p, "graph_from", "") == "accumulated"]
    if len(group) < 2 or not plugins:  # one micro-batch alone is all there is
        return [None] * len(group)
    if strategy.device.type not in ("cpu", "cuda"):
        raise ValueError(
            f"graph_from='accumulated' repeats random streams of the CPU and of CUDA, not those "
            f"of {strategy.device}: take graph_from='micro-batch' there"
        )
    states: list[RandomState | None] = []
    with kept_buffers(strategy.model), torch.no_grad():
        for batch in group:
            strategy.mbatch = list(batch)  # a list of its own, since it is moved to the device
            strategy._unpack_minibatch()
            states.append(RandomState(strategy.device))
            for plugin in plugins:
                plugin.start_look_ahead()
            strategy.forward()
            strategy.extra_forwards += 1
            for plugin in plugins:
                plugin.keep_look_ahead(strategy)
    for plugin in plugins:
        plugin.join()
    return states
