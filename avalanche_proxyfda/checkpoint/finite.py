"""Refuses weights that are NaN or infinite: such a checkpoint would only repeat the failure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from avalanche_proxyfda.features.source import unwrap


def check_weights(strategy: Any) -> None:
    """Check the trainable weights of a strategy's model and of its plugins' modules.

    Buffers and frozen weights are not checked: a mask may hold infinities. An accelerator is
    waited for once.

    Raises:
        ValueError: if a weight is NaN or infinite; names the weight.

    Example:
        >>> import torch
        >>> from avalanche.training import Naive
        >>> from avalanche_proxyfda.checkpoint.finite import check_weights
        >>> model = torch.nn.Linear(4, 2)
        >>> check_weights(Naive(model=model, optimizer=torch.optim.AdamW(model.parameters())))
    """
    weights = dict(_trainable("model", unwrap(strategy.model)))
    for plugin in strategy.plugins:
        for name, value in vars(plugin).items():
            if isinstance(value, nn.Module):
                weights |= dict(_trainable(f"{type(plugin).__qualname__}.{name}", value))
    bad = [
        name for name, fine in zip(weights, _are_finite(weights.values()), strict=True) if not fine
    ]
    if bad:
        more = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
        raise ValueError(
            f"{bad[0]}{more} became NaN or Inf within {strategy.clock.train_iterations} steps, so "
            "no checkpoint was saved: lower the learning rate, or train in float32 or bf16"
        )


def _trainable(owner: str, module: nn.Module) -> Iterable[tuple[str, Tensor]]:
    """Yield the trainable floating-point weights of a module with their names."""
    for name, weight in module.named_parameters():
        if weight.requires_grad and weight.is_floating_point():
            yield f"{owner}.{name}", weight.detach()


def _are_finite(weights: Iterable[Tensor]) -> list[bool]:
    """Return True for each tensor without NaN and infinities; reads a device once."""
    flags = [weight.isfinite().all() for weight in weights]
    if not flags:
        return []
    found = torch.stack([flag.to(flags[0].device) for flag in flags]).tolist()
    return [bool(flag) for flag in found]
