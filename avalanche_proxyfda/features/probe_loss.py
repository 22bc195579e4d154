"""The objective of a linear probe: mean cross-entropy + l2 / 2 |weight|^2, in float64."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from avalanche_proxyfda._float64 import WORKSPACE, rows_at_once
from avalanche_proxyfda._tensors import unit_rows

_COPIES = 4  # float64 copies of a part's features or logits that are alive at once
Slopes = tuple[Tensor, Tensor, Tensor]
"""Loss [], gradient of the weight [C, D], gradient of the bias [C]."""


class WholeProbeLoss:
    """The objective on all rows at once, as the CPU computes it.

    Args:
        features: [N, D].
        labels: [N] int64 in [0, ``classes``), on the same device.
        classes: C.
        l2: penalty on the weight.
        normalize: L2-normalises each row; otherwise rows are divided by :attr:`scale`.

    Attributes:
        scale: 1, or the root mean square norm of the rows.
    """

    scale: float | Tensor

    def __init__(
        self, features: Tensor, labels: Tensor, classes: int, l2: float, normalize: bool
    ) -> None:
        rows = features.double()
        self.scale = 1.0 if normalize else float(rows.square().sum(dim=1).mean().sqrt()) or 1.0
        self._rows = unit_rows(rows) if normalize else rows / self.scale
        self._labels, self._l2 = labels, l2

    def __call__(self, weight: Tensor, bias: Tensor) -> Slopes:
        """Return the loss and its gradients for a probe of the scaled rows."""
        weight, bias = (x.detach().requires_grad_() for x in (weight, bias))
        with torch.enable_grad():
            fit = F.cross_entropy(self._rows @ weight.T + bias, self._labels)
            loss = fit + self._l2 / 2 * weight.square().sum()
            slope, slope_of_bias = torch.autograd.grad(loss, (weight, bias))
        return loss.detach(), slope.contiguous(), slope_of_bias.contiguous()


class PartsProbeLoss:
    """The objective in parts of the rows, as accelerators compute it.

    A call waits for no device. The gradients come from the softmax, so that nothing is saved
    for a backward pass. Features that fit into the workspace are converted once, larger ones
    part by part in each call.

    Args:
        features, labels, classes, l2, normalize: see :class:`WholeProbeLoss`.
        workspace: bytes of temporary values.

    Attributes:
        scale: [] float64, 1 or the root mean square norm of the rows.
    """

    scale: float | Tensor

    def __init__(
        self,
        features: Tensor,
        labels: Tensor,
        classes: int,
        l2: float,
        normalize: bool,
        workspace: int = WORKSPACE,
    ) -> None:
        self._features, self._labels, self._l2 = features, labels.unsqueeze(1), l2
        self._normalize = normalize
        self._size = rows_at_once(8 * _COPIES * (features.shape[1] + classes), workspace)
        self.scale = one = features.new_ones((), dtype=torch.float64)
        if not normalize:
            parts = [part.double().square().sum() for part in torch.split(features, self._size)]
            norm = (torch.stack(parts).sum() / len(features)).sqrt()
            self.scale = torch.where(norm > 0, norm, one)
        self._whole = self._scaled(features) if len(features) <= self._size else None

    def __call__(self, weight: Tensor, bias: Tensor) -> Slopes:
        """Return the loss and its gradients for a probe of the scaled rows."""
        loss, count = self._l2 / 2 * weight.square().sum(), len(self._features)
        slope, slope_of_bias = self._l2 * weight, torch.zeros_like(bias)
        for rows, labels in self._parts():
            logs = F.log_softmax(torch.addmm(bias, rows, weight.T), dim=1)
            right = logs.gather(1, labels)
            loss -= right.sum() / count
            errors = logs.exp_().scatter_(1, labels, right.exp() - 1) / count
            slope.addmm_(errors.T, rows)
            slope_of_bias += errors.sum(dim=0)
        return loss, slope, slope_of_bias

    def _parts(self) -> Iterator[tuple[Tensor, Tensor]]:
        if self._whole is not None:
            yield self._whole, self._labels
            return
        parts = [torch.split(x, self._size) for x in (self._features, self._labels)]
        for features, labels in zip(*parts, strict=True):
            yield self._scaled(features), labels

    def _scaled(self, features: Tensor) -> Tensor:
        rows = features.double()
        return unit_rows(rows) if self._normalize else rows / self.scale
