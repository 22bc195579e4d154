"""Averages of weights along a training: means of snapshots, and exponential moving averages."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from avalanche_proxyfda._checks import check_amount, check_count
from avalanche_proxyfda._tensors import full_precision


def check_decay(name: str, decay: float) -> float:
    """Return ``decay``; raise TypeError or ValueError unless it lies in [0, 1)."""
    if check_amount(name, decay) >= 1:
        raise ValueError(
            f"{name}={decay} must lie in [0, 1): 1 would never leave the start, 0 takes the newest"
        )
    return float(decay)


@torch.no_grad()
def move_towards(average: list[Tensor], weights: list[Tensor], share: float) -> None:
    """Set, in place, ``average`` to ``average + share (weights - average)``.

    Where both are equal, the average keeps its bits; share = 1 gives the bits of ``weights``.
    One ``torch._foreach`` operation serves all tensors, without a wait for the device.

    Args:
        average: floating-point tensors.
        weights: tensors of the same shapes, dtypes and devices.
        share: position between the two, in [0, 1].
    """
    if average:
        torch._foreach_lerp_(average, weights, share)


class RunningAverage:
    """The average of the weights at several moments of a training.

    With ``decay``, the average is an exponential moving one. Without, it is the mean of the
    start and of all snapshots, as ZSCL's weight ensemble (ICCV 2023)::

        decay d:  average <- d average + (1 - d) weights
        None:     average <- (t average + weights) / (t + 1),  t = 1, 2, …

    Integer tensors, such as BatchNorm's count of batches, are copied. Averages of half-precision
    weights are float32: a thousandth of a difference would be lost when it is rounded.

    Args:
        start: tensors by name, copied.
        decay: d in [0, 1), or None.
        every: steps from one snapshot to the next.

    Attributes:
        tensors: the average by name, float32 for half-precision weights.
        steps: steps so far.
        count: snapshots so far, without the start.

    Raises:
        TypeError, ValueError: for a decay outside [0, 1), or ``every`` below 1.

    Example:
        >>> import torch
        >>> from avalanche_proxyfda.weights import RunningAverage
        >>> average = RunningAverage({"w": torch.zeros(1)}, decay=None)
        >>> for value in (1.0, 2.0):
        ...     average.step({"w": torch.full((1,), value)})
        >>> average.tensors
        {'w': tensor([1.])}
    """

    def __init__(
        self, start: Mapping[str, Tensor], decay: float | None = 0.999, every: int = 1
    ) -> None:
        self.decay = None if decay is None else check_decay("decay", decay)
        self.every = check_count("every", every, 1)
        self.tensors: dict[str, Tensor] = {}
        self.add(start)
        self.steps = self.count = 0

    def add(self, start: Mapping[str, Tensor]) -> None:
        """Add tensors that later steps average; their average begins at copies of ``start``.

        Args:
            start: tensors by name; a tensor of a known name begins anew.

        Example:
            >>> import torch
            >>> from avalanche_proxyfda.weights import RunningAverage
            >>> average = RunningAverage({"w": torch.zeros(1)}, decay=0.5)
            >>> average.add({"unfrozen": torch.ones(1)})
            >>> average.step({"w": torch.ones(1), "unfrozen": torch.zeros(1)})
            >>> average.tensors
            {'w': tensor([0.5000]), 'unfrozen': tensor([0.5000])}
        """
        self.tensors |= {
            name: (full_precision(value) if value.is_floating_point() else value).detach().clone()
            for name, value in start.items()
        }

    def step(self, weights: Mapping[str, Tensor]) -> None:
        """Count a step; add the weights if a snapshot is due.

        Args:
            weights: tensors by name, of the names and shapes of the start; others are left out.

        Raises:
            ValueError: when a tensor of the start is missing, or has another shape; nothing is
                counted then.
        """
        wrong = [
            name
            for name, value in self.tensors.items()
            if name not in weights or weights[name].shape != value.shape
        ]
        if wrong:
            raise ValueError(
                f"weights lacks, or has in another shape, {', '.join(wrong[:5])}: give tensors of "
                "the names and shapes of the start"
            )
        self.steps += 1
        if self.steps % self.every:
            return
        self.count += 1
        share = 1 / (self.count + 1) if self.decay is None else 1 - self.decay
        moving = [n for n, value in self.tensors.items() if value.is_floating_point()]
        given = [weights[name].detach().to(self.tensors[name].dtype) for name in moving]
        move_towards([self.tensors[name] for name in moving], given, share)
        with torch.no_grad():
            for name in self.tensors.keys() - set(moving):
                self.tensors[name].copy_(weights[name])
