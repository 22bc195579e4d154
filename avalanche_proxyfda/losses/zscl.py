"""ZSCL: keeps the similarities of reference images and reference texts."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avalanche_proxyfda._checks import check_amount
from avalanche_proxyfda._tensors import (
    check_matrices,
    in_one_precision,
    unit_rows,
    without_autocast,
)
from avalanche_proxyfda.losses.texts import check_texts


class ZSCLLoss(nn.Module):
    """Distillation of image-text similarities, both ways (Zheng et al., ICCV 2023).

    The logits are ``scale`` times the cosines of B images and M texts. With p the softmax of
    the student's logits over T, and q that of the teacher's::

        L = T^2 / B sum_i KL(q_i. || p_i.) + T^2 / M sum_j KL(q_.j || p_.j)

    The first sum takes the softmax over the texts of an image, the second over the images of a
    text. The authors' code (Thunderbeee/ZSCL, commit b96e714) has the cross-entropy in place of
    the KL divergence. They differ by the teacher's entropy, a constant. Where student and
    teacher agree, loss and gradient are exactly zero.

    In the authors' code both sides use the teacher's text features, so the term does not reach
    the student's text tower. ``student_texts`` replaces the texts of the student's side; that
    option is ours.

    The loss saves O(B M) numbers for backward. A row of zeros has the cosine 0 with all rows.

    Args:
        scale: factor of the cosines; CLIP learns about 100.
        temperature: T, which divides the logits; above 0.

    Raises:
        TypeError, ValueError: for a scale or a temperature that is no finite number above 0.

    Example:
        >>> import torch
        >>> from avalanche_proxyfda import ZSCLLoss
        >>> images, texts = torch.eye(2), torch.eye(2)
        >>> loss = ZSCLLoss(scale=2.0)
        >>> loss(images, images, texts), loss(images.flip(0), images, texts)
        (tensor(0.), tensor(3.6969))
    """

    def __init__(self, scale: float = 100.0, temperature: float = 2.0) -> None:
        super().__init__()
        self.scale = check_amount("scale", scale)
        self.temperature = check_amount("temperature", temperature)
        if self.scale == 0:
            raise ValueError("scale=0 must be positive: all logits would be equal")
        if self.temperature == 0:
            raise ValueError("temperature=0 must be positive: the logits are divided by it")

    def forward(
        self, student: Tensor, teacher: Tensor, texts: Tensor, student_texts: Tensor | None = None
    ) -> Tensor:
        """Return the loss of one batch of reference images.

        Args:
            student: image features, [B, D]; receive the gradient.
            teacher: image features of the same images, [B, D]; receive none.
            texts: the teacher's text features, [M, D]; receive no gradient.
            student_texts: the student's features of the same texts, [M, D]; receive the
                gradient. None takes ``texts``, as the authors' code does.

        Returns:
            A scalar, float32 (float64 for a float64 student).

        Raises:
            TypeError, ValueError: for inputs that are not float matrices of these shapes.
        """
        check_matrices(student, teacher, same_width=True)
        check_texts("texts", texts, teacher.shape[1])
        if student_texts is not None:
            check_texts("student_texts", student_texts, student.shape[1])
            if len(student_texts) != len(texts):
                raise ValueError(
                    f"student_texts has {len(student_texts)} rows, texts has {len(texts)}: both "
                    "must hold the features of the same texts"
                )
        with without_autocast(student):
            rows, other = in_one_precision(student, teacher)
            own = texts.detach() if student_texts is None else student_texts
            logits = self._logits(rows, own)
            if len(rows) == 0:
                return torch.sum(logits)
            target = self._logits(other, texts.detach())
            by_image: Tensor = _Divergence.apply(logits, target)
            by_text: Tensor = _Divergence.apply(logits.T, target.T)
            return self.temperature**2 * (by_image + by_text)

    def _logits(self, images: Tensor, texts: Tensor) -> Tensor:
        """Return the logits over T, [B, M]."""
        cosines = unit_rows(images) @ unit_rows(texts.to(images.dtype)).T
        return self.scale / self.temperature * cosines


class _Divergence(torch.autograd.Function):
    """Mean over rows of KL(softmax(teacher) || softmax(student)).

    The gradient by the student's logits is the difference of the two distributions over the
    number of rows. Autograd's own sum of products would leave a rest of rounding where both
    agree; the difference is exactly zero there.
    """

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor) -> Tensor:
        own, other = F.log_softmax(student, dim=1), F.log_softmax(teacher, dim=1)
        target = other.exp()
        ctx.save_for_backward((own.exp() - target) / len(student))
        return (target * (other - own)).sum() / len(student)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (slope,) = ctx.saved_tensors
        return grad * slope, None
