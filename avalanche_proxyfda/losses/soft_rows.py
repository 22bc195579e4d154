"""Divergences of a student's rows from a teacher's, over columns: the core of SoftFDA."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from avalanche_proxyfda._checks import check_amount, check_choice
from avalanche_proxyfda._tensors import check_matrices
from avalanche_proxyfda.losses.divergences import kl_divergence, sigmoid_divergence
from avalanche_proxyfda.losses.graph import GraphLoss, edge_weight
from avalanche_proxyfda.losses.neighbors import NeighborGraph

Divergence = Literal["kl", "bregman"]

SCALE = 10.0
"""The softmax's scale, where none is given."""


class SoftRows(GraphLoss):
    """The divergence of SoftFDA's losses; see :class:`~avalanche_proxyfda.losses.SoftFDALoss`.

    Attributes:
        divergence: ``"kl"`` or ``"bregman"``.
        scale: s of the softmax.
    """

    divergence: Divergence
    scale: float

    def take(self, divergence: Divergence, scale: float | None) -> None:
        """Set divergence and scale; None takes 10.

        Raises:
            TypeError, ValueError: for an unknown divergence, a scale that is no finite number
                > 0, or a scale of the Bregman form.
        """
        check_choice("divergence", divergence, get_args(Divergence))
        if scale is not None and check_amount("scale", scale) == 0:
            raise ValueError("scale=0 makes all distributions uniform: give a number above 0")
        if scale is not None and divergence == "bregman":
            raise ValueError(
                f"scale={scale} is of the softmax, and divergence='bregman' has FDA's sigmoid: "
                "leave scale out, or take divergence='kl'"
            )
        self.divergence, self.scale = divergence, SCALE if scale is None else float(scale)

    def check_batch(self, student: Tensor, teacher: Tensor) -> None:
        """Raise unless both are float [B, D] with the same B; warn once if a used K is clamped."""
        if self.uses_neighbors():
            super().check_batch(student, teacher)
        else:
            check_matrices(student, teacher)

    def uses_neighbors(self) -> bool:
        """Return True if the loss depends on K."""
        return self.divergence == "bregman"

    def between(
        self, cosine: Tensor, similarity: Tensor, graph: NeighborGraph, edges: Tensor | None = None
    ) -> Tensor:
        """Return the divergence of C queries, summed over them.

        The columns are the B rows of the batch, further columns, and P proxies.

        Args:
            cosine: [C, N], the student's cosines; they carry the gradient.
            similarity: [C, N], the teacher's.
            graph: the teacher's graph of the queries in the batch.
            edges: [C, P], the signed weights of the proxies, which come last; None without
                proxies.
        """
        batch, count = graph.itself.shape[1], cosine.shape[1]
        absent = graph.itself.new_zeros(len(cosine), count - batch)
        itself = torch.cat((graph.itself, absent), dim=1)
        if self.divergence == "kl":
            return kl_divergence(cosine * self.scale, similarity * self.scale, itself)
        known = similarity if edges is None else similarity[:, : count - edges.shape[1]]
        weight = edge_weight(known, _neighbors(known, graph), self.negative_weight)
        if edges is not None:
            weight = torch.cat((weight, edges), dim=1)
        scale, bias = self.log_scale.to(cosine.dtype).exp(), self.bias.to(cosine.dtype)
        student, teacher = (-weight * (scale * c + bias) for c in (cosine, similarity))
        return sigmoid_divergence(student, teacher, itself)

    def mean(self, total: Tensor, batch: int, columns: int) -> Tensor:
        """Return the loss from a sum over ``batch`` queries with ``columns`` columns each."""
        return total / (batch if self.divergence == "kl" else batch * columns)


def _neighbors(similarity: Tensor, graph: NeighborGraph) -> Tensor:
    """Return [C, N] bool, True at (i, j) if column j is a neighbour of query i.

    A column beyond the batch is a neighbour if it is as near as the farthest neighbour in the
    batch.
    """
    near, batch = graph.is_neighbor(), graph.itself.shape[1]
    if similarity.shape[1] == batch:
        return near
    least = similarity[:, :batch].masked_fill(~near, torch.inf).amin(dim=1, keepdim=True)
    return torch.cat((near, similarity[:, batch:] >= least), dim=1)


def check_columns(columns: Tensor, student: Tensor, teacher: Tensor) -> None:
    """Raise unless ``columns`` is float [M, D], and D the width of student and teacher."""
    if not isinstance(columns, Tensor) or not columns.is_floating_point():
        raise TypeError("columns must be a floating-point tensor [M, D]")
    check_matrices(student, teacher, same_width=True)
    if columns.ndim != 2 or columns.shape[1] != student.shape[1]:
        raise ValueError(
            f"columns has shape {tuple(columns.shape)}; expected [M, {student.shape[1]}], features "
            "in the space of student and teacher"
        )


def with_columns(rows: Tensor, columns: Tensor | None) -> Tensor:
    """Return the columns of unit rows [B, D]: the rows, then unit ``columns`` [M, D]."""
    return rows if columns is None else torch.cat((rows, columns))
