"""The nearest neighbours of each sample in a batch, and their similarities."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from avalanche_proxyfda._tensors import full_precision, unit_rows


@dataclass(frozen=True)
class NeighborGraph:
    """The K nearest neighbours, by cosine, of C consecutive queries in a batch of B rows.

    A query is a row of the batch, and no query is its own neighbour. C = B for the whole batch.

    Attributes:
        similarity: [C, B] cosines of queries and rows. A query has 1 with itself, or 0 if it
            is a zero row.
        itself: [C, B] bool, True where the row is the query.
        num_neighbors: K, at most B - 1.

    Example:
        >>> import torch
        >>> from avalanche_proxyfda.losses import NeighborGraph
        >>> rows = torch.tensor([[1.0, 0.0], [2.0, 0.2], [0.0, 1.0]])
        >>> graph = NeighborGraph.of(rows, num_neighbors=1)
        >>> graph.is_neighbor().tolist()
        [[False, True, False], [True, False, False], [False, True, False]]
        >>> neighbors, others = graph.sets()
        >>> neighbors.tolist(), others.tolist()
        ([[1], [0], [1]], [[2], [2], [0]])
    """

    similarity: Tensor
    itself: Tensor
    num_neighbors: int

    @staticmethod
    def of(
        features: Tensor, num_neighbors: int, first: int = 0, last: int | None = None
    ) -> NeighborGraph:
        """Build the graph of the queries first:last (all rows if ``last`` is None).

        Args:
            features: [B, D]; the graph carries no gradient.
            num_neighbors: K; clamped to B - 1.
            first: row of the first query.
            last: row after the last query.
        """
        return NeighborGraph.of_units(
            unit_rows(full_precision(features.detach())), num_neighbors, first, last
        )

    @staticmethod
    def of_units(
        rows: Tensor, num_neighbors: int, first: int = 0, last: int | None = None
    ) -> NeighborGraph:
        """Build the graph as :meth:`of` does, from unit rows [B, D] without gradient."""
        last = len(rows) if last is None else last
        column = torch.arange(len(rows), device=rows.device)
        itself = column[first:last].unsqueeze(1) == column
        count = min(num_neighbors, max(len(rows) - 1, 0))
        return NeighborGraph(rows[first:last] @ rows.T, itself, count)

    def sets(self) -> tuple[Tensor, Tensor]:
        """Return the rows of the neighbours [C, K] and of the others [C, B - 1 - K], int64.

        They are the paper's X+ and X-, each from the nearest row to the farthest. Equally near
        rows keep the order of the batch.
        """
        # -inf sorts each query behind the other rows; the last column is then dropped
        order = self._ranked().argsort(dim=1, descending=True, stable=True)[:, :-1]
        return order[:, : self.num_neighbors], order[:, self.num_neighbors :]

    def is_neighbor(self) -> Tensor:
        """Return [C, B] bool, True at (i, j) if row j is a neighbour of query i.

        The neighbours are those of :meth:`sets`. The method compares rows with the K-th largest
        similarity, which is faster than a sort.
        """
        if self.num_neighbors == 0:
            return torch.zeros_like(self.itself)
        ranked = self._ranked()
        least = ranked.topk(self.num_neighbors, dim=1).values[:, -1:]
        nearer, tied = ranked > least, ranked == least
        places = self.num_neighbors - nearer.sum(dim=1, keepdim=True)
        return nearer | (tied & (tied.cumsum(dim=1) <= places))

    def _ranked(self) -> Tensor:
        return self.similarity.masked_fill(self.itself, -torch.inf)
