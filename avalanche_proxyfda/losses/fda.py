"""FDA: transfers the teacher's neighbour graph to the student's features."""

from __future__ import annotations

from torch import Tensor

from avalanche_proxyfda._tensors import full_precision, unit_rows, without_autocast
from avalanche_proxyfda.losses.chunks import Sums, sum_over_queries
from avalanche_proxyfda.losses.graph import GraphLoss, edge_weight
from avalanche_proxyfda.losses.neighbors import NeighborGraph


class FDALoss(GraphLoss):
    """Feature distribution alignment (Huang et al., ICML 2025, Eq. 2).

    The *teacher's* features decide which K samples are the neighbours of a sample. Teacher
    cosines are the weights w of the neighbours, and the negated cosines are the weights of the
    other samples::

        L = 1/B sum_i 1/(B-1) sum_{j != i} log(1 + exp(-w_ij (cos(s_i, s_j) / tau + b)))

    The loss uses no labels. It depends on the directions of the rows only, and a rotation of
    all student features does not change it. Loss and gradient are *not* zero where student
    and teacher agree: the loss sharpens the graph.

    A non-neighbour with a negative teacher cosine attracts, which is the letter of the paper;
    ``negative_weight`` offers three other weights. A batch of one sample has no pairs and gives
    an exact zero.

    The loss saves O(B D) numbers for backward. Batches above 1144 samples, and all batches
    with a ``chunk_size``, are processed in chunks of queries that backward computes again.
    Smaller batches are saved whole, in less than 20 MiB. An accelerator saves a batch of one
    chunk whole, see :func:`~avalanche_proxyfda.losses.chunks.block_bytes`.

    Example:
        >>> import torch
        >>> from avalanche_proxyfda import FDALoss
        >>> teacher = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]])  # two pairs
        >>> loss = FDALoss(num_neighbors=1)
        >>> same, mixed = loss(teacher, teacher), loss(teacher[[0, 2, 1, 3]], teacher)
        >>> round(same.item(), 2), round(mixed.item(), 2)  # the second student parts the pairs
        (0.5, 3.33)
        >>> sorted(name for name, _ in loss.named_parameters())  # the optimizer needs both
        ['bias', 'log_scale']
    """

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
        self.check_batch(student, teacher)
        with without_autocast(student):
            rows = unit_rows(full_precision(student))
            batch = len(rows)
            if batch < 2:
                return rows.sum() * 0.0
            teacher_rows = unit_rows(full_precision(teacher.detach()))
            (total,) = sum_over_queries(
                self._part, batch, self.chunk_size, batch, rows, teacher_rows
            )
            return total / (batch * (batch - 1))

    def _part(self, first: int, last: int, rows: Tensor, teacher_rows: Tensor) -> Sums:
        """Sum the pairs of the queries first:last; both matrices hold unit rows."""
        graph = NeighborGraph.of_units(teacher_rows, self.num_neighbors, first, last)
        return (pair_terms(self, rows[first:last] @ rows.T, graph, graph.is_neighbor()).sum(),)


def pair_terms(loss: GraphLoss, cosine: Tensor, graph: NeighborGraph, neighbor: Tensor) -> Tensor:
    """Return the sigmoid term of every pair of a query and a row of its batch.

    Args:
        loss: gives scale, bias and the weight of non-neighbours.
        cosine: [C, B], cosines of the student's rows.
        graph: the teacher's graph of the same queries.
        neighbor: [C, B] bool, True for the neighbours of the query.

    Returns:
        [C, B], zero for the pair of a query with itself.
    """
    similarity = graph.similarity.to(cosine.dtype)
    weight = edge_weight(similarity, neighbor, loss.negative_weight)
    return loss.sigmoid_loss(cosine, weight).masked_fill(graph.itself, 0.0)
