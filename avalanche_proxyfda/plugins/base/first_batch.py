"""Warnings about batches on which a term can have no effect."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from torch import Tensor

from avalanche_proxyfda._protocols import Strategy
from avalanche_proxyfda.distributed.plugin import batch_size


class _Owner(Protocol):
    """The part of a plugin that warns."""

    name: str
    least_samples: int

    def warn_of(self, subject: str, message: str | None) -> None:
        """Warn once with ``message``; None is no warning."""


def lacks_samples(plugin: _Owner, strategy: Strategy, student: Mapping[Any, Any]) -> bool:
    """Return True if a batch is too small for a term; warn once if the term never has an effect.

    Args:
        plugin: the plugin.
        strategy: an Avalanche strategy, after the forward.
        student: values of the student's places.
    """
    plugin.warn_of("gradient", why_no_gradient(plugin.name, student))
    if batch_size(strategy) >= plugin.least_samples:
        return False
    plugin.warn_of("batch", why_no_term(plugin.name, plugin.least_samples, strategy))
    return True


def why_no_term(name: str, least: int, strategy: Strategy) -> str | None:
    """Return a warning if all batches of a strategy are too small for a term.

    Args:
        name: name of the plugin.
        least: smallest batch that has the term.
        strategy: an Avalanche strategy.

    Returns:
        The cause and the remedy; None if ``train_mb_size`` is large enough, since the last batch
        of an epoch may be small.
    """
    size = int(strategy.train_mb_size) * int(getattr(strategy, "accumulate", 1))
    if size >= least:
        return None
    return (
        f"{name} compares the samples of a batch with each other, and train_mb_size={size} gives "
        f"batches of {size}: the loss has no term of {name}. Give train_mb_size=64, or as many as "
        "the memory allows"
    )


def why_no_gradient(name: str, student: Mapping[Any, Any]) -> str | None:
    """Return a warning if no feature of the student leads a gradient to the model.

    Args:
        name: name of the plugin.
        student: values of the student's places.
    """
    values = [value for value in student.values() if isinstance(value, Tensor)]
    if not values or any(value.requires_grad for value in values):
        return None
    return (
        f"the features that {name} reads have no gradient, so its term changes no weight: the "
        "model detaches them, or all weights before them are frozen"
    )
