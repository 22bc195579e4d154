"""DiVE's image term: all features of reference images may move by one vector."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from avalanche_proxyfda._checks import check_amount
from avalanche_proxyfda._tensors import check_matrices, in_one_precision, without_autocast


class DiVELoss(nn.Module):
    """Difference vector equalisation of images (Suzuki et al., AAAI 2026, second-hand).

    The difference vector of an image is u = f - f_0, student less teacher. The loss is the mean
    over the batch of the squared distance to a running mean of earlier difference vectors::

        L = 1/B sum_i |u_i - m|^2        m <- decay m + (1 - decay) mean(u)

    m begins at zero, and receives no gradient. So loss and gradient are exactly zero where
    student and teacher agree and m is zero. A shift of all features by m costs nothing.

    The formula comes from the paper's abstract and from summaries; no code is public. The start
    of m, the order of the two steps and the features without a norm are ours. The paper's second
    term, which compares pairs of image and text, is left out.

    Args:
        decay: share of the earlier mean, from 0 to below 1.

    Raises:
        TypeError, ValueError: for a decay that is no number from 0 to below 1.

    Example:
        >>> import torch
        >>> from avalanche_proxyfda import DiVELoss
        >>> loss, teacher = DiVELoss(decay=0.5), torch.eye(2)
        >>> loss.follow(teacher + 2, teacher)
        >>> loss.mean, loss(teacher + 2, teacher)
        (tensor([1., 1.]), tensor(2.))
    """

    def __init__(self, decay: float = 0.99) -> None:
        super().__init__()
        self.decay = check_amount("decay", decay)
        if self.decay >= 1:
            raise ValueError(f"decay={decay} must be below 1: the mean would never change")
        self.mean: Tensor | None = None
        """m, [D]; None stands for zero, before the first :meth:`follow`."""

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss of one batch of reference images; m does not change.

        Args:
            student: [B, D], receives the gradient.
            teacher: features of the same images, [B, D], receives none.

        Returns:
            A scalar, float32 (float64 for a float64 student).

        Raises:
            TypeError, ValueError: for inputs that are not two float matrices of one shape, of
                the width of m.
        """
        with without_autocast(student):
            change = self._change(student, teacher)
            if self.mean is not None:
                change = change - self.mean.to(change)
            if len(change) == 0:
                return torch.sum(change)
            return change.square().sum() / len(change)

    @torch.no_grad()
    def follow(self, student: Tensor, teacher: Tensor) -> None:
        """Move m towards the mean difference vector of a batch; an empty batch moves nothing.

        Args:
            student: [B, D].
            teacher: [B, D].

        Raises:
            TypeError, ValueError: see :meth:`forward`.
        """
        with without_autocast(student):
            change = self._change(student, teacher)
            if len(change) == 0:
                return
            step = (1 - self.decay) * change.mean(dim=0)
            self.mean = step if self.mean is None else self.decay * self.mean.to(step) + step

    def reset(self) -> None:
        """Set m to zero, as a new teacher needs it."""
        self.mean = None

    def _change(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the difference vectors, [B, D]."""
        check_matrices(student, teacher, same_width=True)
        if self.mean is not None and self.mean.shape != student.shape[1:]:
            raise ValueError(
                f"the features have {student.shape[1]} columns, but the running mean has "
                f"{len(self.mean)}: make a loss for these features, or call reset()"
            )
        rows, other = in_one_precision(student, teacher)
        return rows - other
