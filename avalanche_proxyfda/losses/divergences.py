"""Divergences of two sets of logits, whose gradient is exactly zero where the sets agree."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def kl_divergence(student: Tensor, teacher: Tensor, left_out: Tensor | None = None) -> Tensor:
    """Return the sum over rows of KL(teacher || student) of two sets of logits.

    The gradient of KL by the student's logits is q - p. Autograd would compute it as
    (sum of p) q - p, which rounding keeps from zero where q = p. So the value is a constant,
    and a product that adds zero to it carries the gradient.

    Args:
        student: [C, N] finite logits, which receive the gradient.
        teacher: [C, N] finite logits.
        left_out: [C, N] bool, True for entries that belong to no distribution; None takes all.

    Example:
        >>> import torch
        >>> from avalanche_proxyfda.losses.divergences import kl_divergence
        >>> logits = torch.tensor([[0.0, 1.0, 7.0]])
        >>> left_out = torch.tensor([[False, False, True]])
        >>> kl_divergence(logits, logits.flip(1), left_out) == kl_divergence(
        ...     logits[:, :2], logits.flip(1)[:, :2]
        ... )
        tensor(True)
    """
    with torch.no_grad():
        given = (teacher, student)
        if left_out is not None:
            given = (
                teacher.masked_fill(left_out, -torch.inf),
                student.masked_fill(left_out, -torch.inf),
            )
        known, own = (logits.log_softmax(1) for logits in given)
        p, q = known.exp(), own.exp()
        difference = known - own
        if left_out is not None:
            difference = difference.masked_fill(left_out, 0.0)
        value = (p * difference).sum()
        slope = q - p
    return _with_slope(value, slope, student)


def sigmoid_divergence(student: Tensor, teacher: Tensor, left_out: Tensor) -> Tensor:
    """Return the sum of the Bregman divergences of softplus between two sets of logits.

    With z of the student and y of the teacher, an entry is::

        softplus(z) - softplus(y) - sigmoid(y) (z - y)

    softplus minus its first-order expansion at the teacher. It is not negative, since softplus is
    convex, and equals KL(Bernoulli(sigmoid(y)) || Bernoulli(sigmoid(z))). The gradient by z is
    sigmoid(z) - sigmoid(y), one difference as in :func:`kl_divergence`.

    Args:
        student: z, [C, N] finite logits, which receive the gradient.
        teacher: y, [C, N] finite logits.
        left_out: [C, N] bool, True for entries that are skipped.

    Example:
        >>> import torch
        >>> from avalanche_proxyfda.losses.divergences import sigmoid_divergence
        >>> z, y = torch.tensor([[0.0, 1.0]]), torch.zeros(1, 2)
        >>> round(float(sigmoid_divergence(z, y, torch.zeros(1, 2, dtype=torch.bool))), 4)
        0.1201
    """
    with torch.no_grad():
        probability = teacher.sigmoid()
        change = F.softplus(student) - F.softplus(teacher) - probability * (student - teacher)
        # rounding alone makes an entry negative
        value = change.clamp_min(0.0).masked_fill(left_out, 0.0).sum()
        slope = (student.sigmoid() - probability).masked_fill(left_out, 0.0)
    return _with_slope(value, slope, student)


def _with_slope(value: Tensor, slope: Tensor, student: Tensor) -> Tensor:
    """Return ``value`` with the gradient ``slope`` by ``student``."""
    carrier = (slope * student).sum()
    return value + (carrier - carrier.detach())
