"""Center: keeps the mean feature of a batch near the teacher's."""

from __future__ import annotations

from torch import Tensor, nn

from avalanche_proxyfda._tensors import check_matrices, full_precision, without_autocast


class CenterLoss(nn.Module):
    """Squared Euclidean distance between the mean features of student and teacher.

    The loss is zero where the two means agree, whatever the single features are.
    """

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss of one batch.

        Args:
            student: [B, D], receives the gradient.
            teacher: [B, D], receives none.

        Returns:
            A scalar, float32 (float64 for a float64 student).

        Raises:
            TypeError, ValueError: for inputs that are not two float matrices of one shape.
        """
        check_matrices(student, teacher, same_width=True)
        with without_autocast(student):
            rows = full_precision(student)
            target = full_precision(teacher.detach()).to(rows.dtype)
            return (rows.mean(dim=0) - target.mean(dim=0)).square().sum()
