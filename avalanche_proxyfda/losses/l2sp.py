"""L2-SP: the squared distance of weights to their anchors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from avalanche_proxyfda._tensors import norms


class _SquaredDistance(torch.autograd.Function):
    """Sum of squared differences of two lists of tensors; the first list gets the gradient.

    Forward and backward each launch a constant number of ``torch._foreach`` kernels. A sum
    tensor by tensor would launch several kernels for each tensor.
    """

    @staticmethod
    def forward(ctx: Any, anchors: Sequence[Tensor], *weights: Tensor) -> Tensor:
        ctx.anchors = anchors
        ctx.save_for_backward(*weights)
        return norms(torch._foreach_sub(list(weights), list(anchors))).square().sum()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        slopes = torch._foreach_sub(list(ctx.saved_tensors), list(ctx.anchors))
        torch._foreach_mul_(slopes, 2 * grad)
        return (None, *slopes)


class L2SPLoss(nn.Module):
    """Sum over all weights of (theta - anchor)^2 (Li et al., ICML 2018, Eq. 2, without the 1/2).

    Where the weights equal their anchors, the loss and its gradient are exactly zero.

    Example:
        >>> import torch
        >>> from avalanche_proxyfda import L2SPLoss
        >>> anchors = [torch.zeros(2, 3), torch.ones(3)]
        >>> weights = [anchors[0] + 1, anchors[1] + 2]  # six weights moved by 1, three by 2
        >>> float(L2SPLoss()(weights, anchors))
        18.0
    """

    def forward(self, weights: Sequence[Tensor], anchors: Sequence[Tensor]) -> Tensor:
        """Return the sum over all tensors.

        Args:
            weights: parameters, any shapes; receive the gradient.
            anchors: one tensor for each weight, of the same shape; receive none.

        Returns:
            A scalar.

        Raises:
            ValueError: without a weight, or for lists or shapes that differ.
        """
        if not weights or [w.shape for w in weights] != [a.shape for a in anchors]:
            raise ValueError(
                f"weights ({len(weights)} tensors) and anchors ({len(anchors)}) must be equally "
                "many, at least one, and of the same shapes"
            )
        total: Tensor = _SquaredDistance.apply(anchors, *weights)
        return total
