"""The neighbour graph of a batch: who is near whom, and how near."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_TINY = 1e-30  # rows whose largest entry is below this count as zero rows


def full_precision(features: Tensor) -> Tensor:
    """``features`` in float32, or untouched when they are float64."""
    return features if features.dtype == torch.float64 else features.float()


def unit_rows(features: Tensor) -> Tensor:
    """L2-normalise the last axis; zero rows stay zero and get a zero gradient.

    Rows are first divided by their largest entry. The quotient is what is normalised, so
    neither huge nor tiny rows overflow; a direction does not depend on a positive factor,
    so treating that factor as a constant leaves the gradient exact.

    Args:
        features: [..., D], float32 or float64.

    Returns:
        [..., D], rows of norm 1 (or 0).
    """
    largest = features.detach().abs().amax(dim=-1, keepdim=True)
    factor = torch.where(largest > _TINY, largest, torch.inf)
    scaled = features / factor
    # a live row has a norm of at least 1 here, so the clamp acts on zero rows alone
    norm: Tensor = torch.linalg.vector_norm(scaled, dim=-1, keepdim=True)
    return scaled / norm.clamp_min(0.5)


@dataclass(frozen=True)
class NeighborGraph:
    """The k-nearest-neighbour graph of one batch, by cosine, each row without itself.

    It may be of a run of C anchors alone, C = B for the whole batch.

    Attributes:
        similarity: [C, B] cosine similarities of anchors and rows (1 of a row with itself, or
            0 for a zero row).
        itself: [C, B] bool: True where the row is the anchor.
        num_neighbors: how many of the other rows are neighbours.
    """

    similarity: Tensor
    itself: Tensor
    num_neighbors: int

    @staticmethod
    def of(
        features: Tensor, num_neighbors: int, first: int = 0, last: int | None = None
    ) -> NeighborGraph:
        """Graph of ``features`` [B, D]; ``num_neighbors`` is clamped to B - 1.

        ``first`` and ``last`` choose the anchors first:last.
        """
        return NeighborGraph.of_units(
            unit_rows(full_precision(features.detach())), num_neighbors, first, last
        )

    @staticmethod
    def of_units(
        rows: Tensor, num_neighbors: int, first: int = 0, last: int | None = None
    ) -> NeighborGraph:
        """As :meth:`of`, of rows [B, D] that :func:`unit_rows` made, without gradient."""
        last = len(rows) if last is None else last
        column = torch.arange(len(rows), device=rows.device)
        itself = column[first:last].unsqueeze(1) == column
        near = min(num_neighbors, max(len(rows) - 1, 0))
        return NeighborGraph(rows[first:last] @ rows.T, itself, near)

    def sets(self) -> tuple[Tensor, Tensor]:
        """The neighbours [C, K] of each anchor and the others [C, B - 1 - K], int64 rows.

        The paper's X+ and X-, both from the nearest to the farthest; of equally near rows the
        first comes first.
        """
        # -inf puts each row last in its own list; the last column is then dropped
        order = self._ranked().argsort(dim=1, descending=True, stable=True)[:, :-1]
        return order[:, : self.num_neighbors], order[:, self.num_neighbors :]

    def is_neighbor(self) -> Tensor:
        """[C, B] bool: True at (i, j) where j is a neighbour of i.

        The same neighbours as of :meth:`sets`, without its sort: the K-th largest similarity
        decides.
        """
        if self.num_neighbors == 0:
            return torch.zeros_like(self.itself)
        ranked = self._ranked()
        least = ranked.topk(self.num_neighbors, dim=1).values[:, -1:]
        nearer, level = ranked > least, ranked == least
        room = self.num_neighbors - nearer.sum(dim=1, keepdim=True)
        return nearer | (level & (level.cumsum(dim=1) <= room))

    def _ranked(self) -> Tensor:
        return self.similarity.masked_fill(self.itself, -torch.inf)
