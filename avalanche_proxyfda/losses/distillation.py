"""Distillation: keeps a student's logits near a teacher's."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avalanche_proxyfda._checks import check_amount
from avalanche_proxyfda._tensors import full_precision, without_autocast


class DistillationLoss(nn.Module):
    """KL(teacher || student) of softened distributions, averaged over the batch.

    Li and Hoiem (ECCV 2016, Eq. 2 and 3) use the cross-entropy, which differs from the KL
    divergence by a constant, the teacher's entropy. The paper has no factor T^2, and neither
    has this loss. Where student and teacher agree, the loss is zero, and its gradient is zero
    up to rounding.

    Args:
        temperature: T, which divides the logits; above 0.

    Raises:
        TypeError, ValueError: for a temperature that is no finite number above 0.

    Example:
        >>> import torch
        >>> from avalanche_proxyfda import DistillationLoss
        >>> loss = DistillationLoss(temperature=2.0)
        >>> teacher = torch.tensor([[2.0, 0.0, -2.0]])  # logits of one image
        >>> float(loss(teacher, teacher)), round(float(loss(teacher.flip(1), teacher)), 3)
        (0.0, 1.15)
    """

    def __init__(self, temperature: float = 2.0) -> None:
        super().__init__()
        self.temperature = check_amount("temperature", temperature)
        if self.temperature == 0:
            raise ValueError("temperature=0 must be positive: the logits are divided by it")

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss of one batch.

        Args:
            student: logits, [B, U]; receive the gradient.
            teacher: logits of the same units, [B, U]; receive none.

        Returns:
            A scalar, float32 (float64 for float64 logits).

        Raises:
            ValueError: for shapes that differ, or without a unit.
        """
        if student.shape != teacher.shape or student.ndim != 2 or student.shape[1] == 0:
            raise ValueError(
                f"student {tuple(student.shape)} and teacher {tuple(teacher.shape)} must both be "
                "[B, U] logits of the same units, at least one"
            )
        with without_autocast(student):
            softened = F.log_softmax(full_precision(student) / self.temperature, dim=1)
            target = F.log_softmax(full_precision(teacher.detach()) / self.temperature, dim=1)
            divergence: Tensor = (target.exp() * (target - softened)).sum(dim=1)
            return divergence.mean() if len(divergence) else torch.sum(softened)
