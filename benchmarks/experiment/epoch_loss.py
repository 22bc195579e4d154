"""Avalanche's loss of an epoch, without a wait of the host at each step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from avalanche.evaluation import metrics
from avalanche.evaluation.metrics import Mean
from torch import Tensor

from avalanche_proxyfda._protocols import Strategy

_READ_AT_ONCE = 100  # losses; a wait of the host for each read


class EpochLoss(metrics.EpochLoss):  # type: ignore[misc]  # Avalanche is not typed
    """The mean loss of an epoch's samples, to the bit that of Avalanche's metric.

    Avalanche's metric reads the loss of each step, and the host waits for it. This metric keeps
    the losses on the device and reads 100 of them at a time.
    """

    def __init__(self) -> None:
        super().__init__()
        self._mean = Mean()
        self._losses: list[Tensor] = []
        self._sizes: list[int] = []

    @torch.no_grad()
    def update(self, strategy: Strategy) -> None:
        """Keep the loss of the step."""
        self._losses.append(torch.mean(strategy.loss.detach()))
        self._sizes.append(len(strategy.mb_y))
        if len(self._losses) == _READ_AT_ONCE:
            self._read()

    def _read(self) -> None:
        if self._losses:
            losses = torch.stack(self._losses).tolist()
            for loss, size in zip(losses, self._sizes, strict=True):
                self._mean.update(loss, weight=size)
        self._losses, self._sizes = [], []

    def result(self) -> float:
        """Return the mean loss since the last reset."""
        self._read()
        return float(self._mean.result())

    def reset(self) -> None:
        """Begin an epoch."""
        self._losses, self._sizes = [], []
        self._mean.reset()

    def state_dict(self) -> dict[str, Any]:
        """Return the sum of the losses so far, and the number of samples."""
        self._read()
        return {"summed": self._mean.summed, "weight": self._mean.weight}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a result of :meth:`state_dict`."""
        self._losses, self._sizes = [], []
        self._mean.summed, self._mean.weight = state["summed"], state["weight"]
