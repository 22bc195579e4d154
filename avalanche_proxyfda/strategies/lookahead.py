"""Computes the features of all micro-batches of a step before the step trains on them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from avalanche_proxyfda._accelerator import has_random_stream
from avalanche_proxyfda._protocols import AccumulatingStrategy, LookAheadPlugin
from avalanche_proxyfda._random import RandomState


@contextmanager
def kept_buffers(model: nn.Module) -> Iterator[None]:
    """Restore the model's buffers after the block, so BatchNorm counts each batch once.

    Example:
        >>> import torch
        >>> from avalanche_proxyfda.strategies.lookahead import kept_buffers
        >>> from torch import nn
        >>> norm = nn.BatchNorm1d(2)
        >>> with kept_buffers(norm):
        ...     _ = norm(torch.ones(3, 2))
        >>> int(norm.num_batches_tracked)
        0
    """
    before = [(buffer, buffer.clone()) for buffer in model.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in before:
                buffer.copy_(value)


def look_ahead(strategy: AccumulatingStrategy, group: Sequence[Any]) -> list[RandomState | None]:
    """Give plugins with ``graph_from="accumulated"`` the features of every micro-batch.

    Such a plugin computes one loss over the whole step. The gradient of each micro-batch then
    depends on the features of all of them. This function therefore runs an extra forward
    without gradient for each micro-batch.

    Args:
        strategy: strategy that is about to train on ``group``; its ``mbatch`` ends as the last
            micro-batch.
        group: micro-batches of the step, as the loader returned them.

    Returns:
        Random state for each micro-batch. The training forward draws from that state again, so
        dropout drops the same units. None for each micro-batch if there was no extra forward.

    Raises:
        ValueError: for a device whose random stream torch cannot repeat.
    """
    plugins: list[LookAheadPlugin] = [
        plugin for plugin in strategy.plugins if getattr(plugin, "graph_from", "") == "accumulated"
    ]
    if len(group) < 2 or not plugins:  # the training forward of a single micro-batch suffices
        return [None] * len(group)
    if strategy.device.type != "cpu" and not has_random_stream(strategy.device):
        raise ValueError(
            f"device={strategy.device} does not support graph_from='accumulated', which repeats "
            "the device's random stream: pass graph_from='micro-batch'"
        )
    states: list[RandomState | None] = []
    with kept_buffers(strategy.model), torch.no_grad():
        for batch in group:
            # a copy, since unpacking moves its tensors; a marked batch keeps its names
            strategy.mbatch = batch.copy() if isinstance(batch, list) else list(batch)
            strategy._unpack_minibatch()
            states.append(RandomState.capture(strategy.device, torch_only=True))
            for plugin in plugins:
                plugin.start_look_ahead()
            strategy.forward()
            strategy.extra_forwards += 1
            for plugin in plugins:
                plugin.keep_look_ahead(strategy)
    for plugin in plugins:
        plugin.join()
    return states
