"""RKD: keeps the distances and angles between the features of a batch."""

from __future__ import annotations

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
from avalanche_proxyfda.losses.chunks import ChunkSize, Sums, on_accelerator, sum_over_queries
from avalanche_proxyfda.losses.distances import pair_distances

_CHUNK = 1 << 22  # numbers in the largest tensor of a chunk on the CPU


class RKDLoss(nn.Module):
    """Relational knowledge distillation (Park et al., CVPR 2019).

    The loss is the smooth L1 distance between student and teacher of two quantities. (a) The
    Euclidean distances of all pairs, divided by the batch's mean over the positive distances;
    the loss averages over the B^2 ordered pairs. (b) The cosine of the angle at i between j
    and k; the loss averages over the B^3 ordered triples. The loss is zero where student and
    teacher agree. It is invariant to rotation, shift and scale of the student.

    The loss computes angles one chunk of vertices at a time, and again in backward, so it
    saves O(B^2 + B D) numbers. An accelerator whose memory takes the whole batch as one chunk
    saves the batch whole (:func:`~avalanche_proxyfda.losses.chunks.sum_over_queries`).

    Args:
        distance_weight: weight of (a); 0 skips it.
        angle_weight: weight of (b); 0 skips it. The paper's ratio is 1 : 2.

    Raises:
        TypeError, ValueError: for a weight that is no finite number >= 0.

    Example:
        >>> import torch
        >>> from avalanche_proxyfda import RKDLoss
        >>> teacher = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]])
        >>> rotated = teacher @ torch.tensor([[0.0, 1.0], [-1.0, 0.0]])
        >>> loss = RKDLoss()
        >>> round(float(loss(2 * rotated + 1, teacher)), 3)
        0.0
        >>> stretched = teacher * torch.tensor([1.0, 2.0])
        >>> bool(loss(stretched, teacher) > 0.01)
        True
    """

    def __init__(self, distance_weight: float = 1.0, angle_weight: float = 2.0) -> None:
        super().__init__()
        self.distance_weight = check_amount("distance_weight", distance_weight)
        self.angle_weight = check_amount("angle_weight", angle_weight)

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss of one batch.

        Args:
            student: [B, D], receives the gradient.
            teacher: [B, D'], receives none; D' may differ from D.

        Returns:
            A scalar, float32 (float64 for a float64 student).

        Raises:
            TypeError, ValueError: for inputs that are not two float matrices with equal B.
        """
        check_matrices(student, teacher)
        with without_autocast(student):
            x, x0 = in_one_precision(student, teacher)
            if len(x) < 2:
                return x.sum() * 0.0
            loss = x.new_zeros(())
            if self.distance_weight:
                distances = F.smooth_l1_loss(relative_distances(x), relative_distances(x0))
                loss = loss + self.distance_weight * distances
            if self.angle_weight:
                loss = loss + self.angle_weight * _angle_loss(x, x0)
            return loss


def relative_distances(rows: Tensor) -> Tensor:
    """Return [B, B] Euclidean distances over the mean of the positive ones; zeros if none is."""
    distance = pair_distances(rows)
    mean = distance.sum() / (distance.detach() > 0).sum().clamp_min(1)
    return distance / torch.where(mean > 0, mean, 1.0)


def _angle_loss(x: Tensor, x0: Tensor) -> Tensor:
    """Return the mean over all (i, j, k) of smooth L1 between the cosines at i."""
    count = len(x)
    numbers = count * max(count, x.shape[1], x0.shape[1])
    size: ChunkSize = "auto" if on_accelerator(x.device) else max(1, _CHUNK // numbers)
    (total,) = sum_over_queries(_part, count, size, numbers, x, x0)
    return total / count**3


def _part(first: int, last: int, x: Tensor, x0: Tensor) -> Sums:
    """Sum the angles at the vertices first:last."""
    cosines, others = (_cosines(rows, first, last) for rows in (x, x0))
    return (F.smooth_l1_loss(cosines, others, reduction="sum"),)


def _cosines(rows: Tensor, first: int, last: int) -> Tensor:
    """Return [C, B, B] cosines of the angles at C rows; 0 if a side has no length."""
    sides = unit_rows(rows.unsqueeze(0) - rows[first:last].unsqueeze(1))
    return sides @ sides.transpose(1, 2)
