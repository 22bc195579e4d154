"""FDA: transfers the teacher's neighbour graph into the student's features."""

from __future__ import annotations

from torch import Tensor

from avalanche_proxyfda.losses.base import GraphLoss, edge_weight, without_autocast
from avalanche_proxyfda.losses.chunks import Terms, sum_over_anchors
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
    pairs and gives an exact zero.

    Saves O(B D) for backward: beyond batches of 1024, or with a ``chunk_size``, anchors are
    processed in chunks that are computed again in backward. Smaller batches are kept, in less
    than 20 MiB.
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
            batch = len(rows)
            if batch < 2:
                return rows.sum() * 0.0
            known = unit_rows(full_precision(teacher.detach()))
            (total,) = sum_over_anchors(self._part, batch, self.chunk_size, batch, rows, known)
            return total / (batch * (batch - 1))

    def _part(self, first: int, last: int, rows: Tensor, known: Tensor) -> Terms:
        """The sum over the pairs of the anchors first:last; rows and known are unit rows."""
        graph = NeighborGraph.of_units(known, self.num_neighbors, first, last)
        return (pair_terms(self, rows[first:last] @ rows.T, graph, graph.is_neighbor()).sum(),)


def pair_terms(loss: GraphLoss, cosine: Tensor, graph: NeighborGraph, neighbor: Tensor) -> Tensor:
    """The sigmoid term of every pair of an anchor and a row of its batch.

    Args:
        loss: gives scale, bias and the weight of non-neighbours.
        cosine: [C, B], of the student's rows.
        graph: the teacher's graph of the same anchors.
        neighbor: [C, B] bool, its neighbours.

    Returns:
        [C, B], zero for an anchor with itself.
    """
    similarity = graph.similarity.to(cosine.dtype)
    weight = edge_weight(similarity, neighbor, loss.negative_weight)
    return loss.sigmoid_loss(cosine, weight).masked_fill(graph.itself, 0.0)
