"""Lipsum-FT: keeps the energies of images with random texts."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from avalanche_proxyfda._checks import check_amount
from avalanche_proxyfda._tensors import (
    check_matrices,
    in_one_precision,
    unit_rows,
    without_autocast,
)
from avalanche_proxyfda.losses.texts import check_texts


class LipsumFTLoss(nn.Module):
    """Squared change of image-text logits (Nam et al., ICLR 2024).

    The logits v(x) are ``scale`` times the cosines of an image and M texts::

        L = 1/B sum_i 1/(2 M) |v(x_i) - v_0(x_i)|^2

    v_0 are the teacher's. Both sides use the same text features, so the text tower stays as it
    is. The formula is that of the authors' code (cs-giung/lipsum-ft, commit 1331873), which
    normalises both kinds of features and includes CLIP's scale. Where student and teacher
    agree, loss and gradient are exactly zero.

    Args:
        scale: factor of the cosines; CLIP learns about 100.

    Raises:
        TypeError, ValueError: for a scale that is no finite number above 0.

    Example:
        >>> import torch
        >>> from avalanche_proxyfda import LipsumFTLoss
        >>> images, texts = torch.eye(2), torch.tensor([[1.0, 0.0]])
        >>> LipsumFTLoss(scale=2.0)(images.flip(0), images, texts)
        tensor(2.)
    """

    def __init__(self, scale: float = 100.0) -> None:
        super().__init__()
        self.scale = check_amount("scale", scale)
        if self.scale == 0:
            raise ValueError("scale=0 must be positive: the loss would be zero")

    def forward(self, student: Tensor, teacher: Tensor, texts: Tensor) -> Tensor:
        """Return the loss of one batch of images.

        Args:
            student: image features, [B, D]; receive the gradient.
            teacher: image features of the same images, [B, D]; receive none.
            texts: text features, [M, D]; receive none.

        Returns:
            A scalar, float32 (float64 for a float64 student).

        Raises:
            TypeError, ValueError: for inputs that are not float matrices of these shapes.
        """
        check_matrices(student, teacher, same_width=True)
        check_texts("texts", texts, student.shape[1])
        with without_autocast(student):
            rows, other = in_one_precision(student, teacher)
            known = unit_rows(texts.detach().to(rows.dtype))
            # the change of the features comes first: a difference of logits would lose digits
            change = unit_rows(rows) - unit_rows(other)
            energies = self.scale * change @ known.T
            if len(rows) == 0:
                return torch.sum(energies)
            return energies.square().sum() / (2 * len(texts) * len(rows))
