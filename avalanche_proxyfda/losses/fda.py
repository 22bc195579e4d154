"""FDA: transfers the teacher's neighbour graph into the student's features."""

from __future__ import annotations

import torch
from torch import Tensor

from avalanche_proxyfda.losses.base import GraphLoss, edge_weight, without_autocast
from avalanche_proxyfda.losses.neighbors import NeighborGraph, full_precision, unit_rows


class FDALoss(GraphLoss):
    """Feature distribution alignment (Huang et al., ICML 2025, Eq. 2).

    Over the K nearest neighbours R_i of each sample among the *teacher's* features, with
    the teacher's cosines as weights w (negative for the others)::

        L = 1/B sum_i 1/(B-1) sum_{j != i} log(1 + exp(-w_ij (cos(s_i, s_j) / tau + b)))

    Labels play no part. The loss depends on the directions of the rows alone and is
    invariant to a common rotation of the student's features; it is *not* zero, nor is its
    gradient, where student and teacher agree: it sharpens the graph.

    The weights of non-neighbours are our reading of "derived from the similarity"; the
    other two readings are options of ``negative_weight``. Takes any B: one sample has no
    pairs and gives an exact zero. Saves O(B^2 + B D) for backward.
    """

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """The loss of one batch.

        Args:
            student: [B, D], receives the gradient.
            teacher: [B, D'], receives none; D' may differ from D.

        Returns:
            A scalar, float32 (float64 for a float64 student).

        Raises:
            TypeError, ValueError: for anything but two float matrices with equal B.
        """
        self.check_batch(student, teacher)
        with without_autocast(student):
            rows = unit_rows(full_precision(student))
            if len(rows) < 2:
                return rows.sum() * 0.0
            graph = NeighborGraph.of(teacher, self.num_neighbors)
            terms = pair_terms(self, rows @ rows.T, graph)
            return terms.sum() / (len(rows) * (len(rows) - 1))


def pair_terms(loss: GraphLoss, cosine: Tensor, graph: NeighborGraph) -> Tensor:
    """The sigmoid term of every ordered pair of a batch.

    Args:
        loss: gives scale, bias and the weight of non-neighbours.
        cosine: [B, B], of the student's rows.
        graph: the teacher's graph of the same batch.

    Returns:
        [B, B], zero on the diagonal.
    """
    similarity = graph.similarity.to(cosine.dtype)
    weight = edge_weight(similarity, graph.is_neighbor(), loss.negative_weight)
    itself = torch.eye(len(cosine), dtype=torch.bool, device=cosine.device)
    return loss.sigmoid_loss(cosine, weight).masked_fill(itself, 0.0)
