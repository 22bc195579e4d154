"""Learning without forgetting: distillation of the logits of old units."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from avalanche_proxyfda.losses.base import without_autocast
from avalanche_proxyfda.losses.neighbors import full_precision


def distillation(student: Tensor, teacher: Tensor, temperature: float = 2.0) -> Tensor:
    """KL(teacher || student) of softened distributions, mean over the batch.

    Li and Hoiem (ECCV 2016, Eq. 2 and 3) use the cross-entropy, which differs by the
    teacher's entropy, a constant. There is no factor T^2, as there is none in the paper.
    Zero where both agree, and so is its gradient, but for rounding.

    Args:
        student: logits of the old units, [B, U]; receive the gradient.
        teacher: logits of the same units, [B, U].
        temperature: T, positive.

    Returns:
        A scalar, float32 (float64 for float64 logits).

    Raises:
        ValueError: when shapes differ, or there is no unit.
    """
    if student.shape != teacher.shape or student.ndim != 2 or student.shape[1] == 0:
        raise ValueError(
            f"student {tuple(student.shape)} and teacher {tuple(teacher.shape)} must both be "
            "[B, U] logits of the same units, at least one"
        )
    with without_autocast(student):
        softened = F.log_softmax(full_precision(student) / temperature, dim=1)
        target = F.log_softmax(full_precision(teacher.detach()) / temperature, dim=1)
        gap: Tensor = (target.exp() * (target - softened)).sum(dim=1)
        return gap.mean() if len(gap) else torch.sum(softened)
