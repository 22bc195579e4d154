"""PKT: keeps, for each sample of a batch, the distribution over the other samples."""

from __future__ import annotations

from typing import Literal, get_args

from torch import Tensor, nn

from avalanche_proxyfda._checks import check_amount, check_choice
from avalanche_proxyfda._tensors import (
    check_matrices,
    in_one_precision,
    unit_rows,
    without_autocast,
)
from avalanche_proxyfda.losses.divergences import kl_divergence

Kernel = Literal["softmax", "cosine"]

SCALE = 10.0
"""The softmax kernel's scale, where none is given."""
_LEAST = 1e-6  # of the cosine kernel, so that opposite rows have a finite logarithm


class PKTLoss(nn.Module):
    """Probabilistic knowledge transfer (Passalis and Tefas, ECCV 2018).

    Each sample i has a distribution over the other samples j of the batch, in the teacher's
    features and in the student's. With the cosine c_ij of two rows, it is::

        softmax:  p_ij = exp(s c_ij) / sum_{k != i} exp(s c_ik)
        cosine:   p_ij = (1 + c_ij) / sum_{k != i} (1 + c_ik)

    The loss is the mean over i of KL(teacher || student). The loss and its gradient are exactly
    zero where student and teacher agree. The loss is invariant to rotation of the student and
    to the scale of each row. It saves O(B^2 + B D) numbers.

    The paper uses the cosine kernel. Its distributions are nearly uniform, since the kernel
    takes values in [0, 1] without a scale. The softmax kernel gives near samples more weight.

    Args:
        scale: s > 0 of the softmax kernel; None takes 10. The cosine kernel has none.
        kernel: ``"softmax"``, or the paper's ``"cosine"``.

    Raises:
        TypeError, ValueError: for a scale that is no finite number > 0, a scale of the cosine
            kernel, or an unknown kernel.

    Example:
        >>> import torch
        >>> from avalanche_proxyfda import PKTLoss
        >>> rows = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
        >>> float(PKTLoss()(rows, rows)), float(PKTLoss()(rows, rows.flip(1)))
        (0.0, 0.0)
    """

    def __init__(self, scale: float | None = None, kernel: Kernel = "softmax") -> None:
        super().__init__()
        check_choice("kernel", kernel, get_args(Kernel))
        if scale is not None and check_amount("scale", scale) == 0:
            raise ValueError("scale=0 makes all distributions uniform: give a number above 0")
        if scale is not None and kernel == "cosine":
            raise ValueError(
                f"scale={scale} belongs to the softmax kernel: leave scale out, or take "
                "kernel='softmax'"
            )
        self.kernel: Kernel = kernel
        self.scale = SCALE if scale is None else float(scale)

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss of one batch.

        Args:
            student: [B, D], receives the gradient.
            teacher: [B, D'], receives none; D' may differ from D.

        Returns:
            A scalar, float32 (float64 for a float64 student); 0 for B < 2.

        Raises:
            TypeError, ValueError: for inputs that are not two float matrices with equal B.
        """
        check_matrices(student, teacher)
        with without_autocast(student):
            x, x0 = in_one_precision(student, teacher)
            if len(x) < 2:
                return x.sum() * 0.0
            return kl_divergence(self._logits(x), self._logits(x0)) / len(x)

    def _logits(self, rows: Tensor) -> Tensor:
        """Return [B, B - 1] logits of the distributions over the other samples."""
        unit = unit_rows(rows)
        cosines = _others(unit @ unit.T)
        if self.kernel == "softmax":
            return cosines * self.scale
        return ((cosines + 1) / 2).clamp_min(_LEAST).log()


def _others(square: Tensor) -> Tensor:
    """Return a matrix [B, B] without its diagonal, [B, B - 1]."""
    count = len(square)
    shifted = square.flatten()[1:].view(count - 1, count + 1)  # the diagonal is the last column
    return shifted[:, :-1].reshape(count, count - 1)
