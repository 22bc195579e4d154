"""Batches and optimizer steps of an experience, planned by epochs or by a number of steps.

A strategy may have the attribute ``train_steps``: optimizer steps of each experience. The last
epoch then ends after the last of these steps. Without the attribute, or with None,
``train_epochs`` alone decides. ``train_epochs`` must be :func:`epochs_of_steps` in both cases.
"""

from __future__ import annotations

import math

from avalanche_proxyfda._checks import check_count
from avalanche_proxyfda._protocols import Loader, Strategy


def epochs_of_steps(steps: int, batches: int, accumulate: int = 1) -> int:
    """Return the number of epochs that hold ``steps`` optimizer steps; the last may be partial.

    Args:
        steps: optimizer steps.
        batches: batches of an epoch.
        accumulate: batches of an optimizer step; the last step of an epoch may have fewer.

    Raises:
        TypeError, ValueError: for an argument that is no int >= 1.

    Example:
        >>> from avalanche_proxyfda.strategies.budget import epochs_of_steps
        >>> epochs_of_steps(6, batches=3), epochs_of_steps(7, batches=3)
        (2, 3)
        >>> epochs_of_steps(4, batches=3, accumulate=2)
        2
    """
    check_count("steps", steps, 1)
    check_count("batches", batches, 1)
    return math.ceil(steps / steps_of_epoch(batches, accumulate))


def steps_of_epoch(batches: int, accumulate: int = 1) -> int:
    """Return the optimizer steps of a whole epoch; arguments as in :func:`epochs_of_steps`."""
    return math.ceil(batches / check_count("accumulate", accumulate, 1))


def batches_of_steps(steps: int, batches: int, accumulate: int = 1) -> int:
    """Return the batches of ``steps`` optimizer steps; arguments as in :func:`epochs_of_steps`.

    Example:
        >>> from avalanche_proxyfda.strategies.budget import batches_of_steps
        >>> batches_of_steps(3, batches=3, accumulate=2)  # two batches, then one, then two
        5
    """
    whole, rest = divmod(steps, steps_of_epoch(batches, accumulate))
    return whole * batches + rest * accumulate


def planned_batches(strategy: Strategy) -> int:
    """Return the number of batches in the strategy's experience."""
    batches = len(strategy.dataloader)
    steps = getattr(strategy, "train_steps", None)
    if steps is None:
        return batches * strategy.train_epochs
    return batches_of_steps(steps, batches, getattr(strategy, "accumulate", 1))


def planned_steps(strategy: Strategy) -> int:
    """Return the number of optimizer steps in the strategy's experience."""
    steps: int | None = getattr(strategy, "train_steps", None)
    if steps is not None:
        return steps
    accumulate = getattr(strategy, "accumulate", 1)
    return steps_of_epoch(len(strategy.dataloader), accumulate) * strategy.train_epochs


def batches_of_epoch(strategy: Strategy, loader: Loader) -> int:
    """Return the number of batches in the strategy's present epoch, which may be partial.

    Args:
        strategy: a strategy inside an experience.
        loader: loader of whole epochs.
    """
    batches, steps = len(loader), getattr(strategy, "train_steps", None)
    if steps is None:
        return batches
    planned = batches_of_steps(steps, batches, getattr(strategy, "accumulate", 1))
    return max(0, min(batches, planned - batches * strategy.clock.train_exp_epochs))
