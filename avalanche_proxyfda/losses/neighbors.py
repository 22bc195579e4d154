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

    Attributes:
        similarity: [B, B] cosine similarities (the diagonal is 1, or 0 for a zero row).
        order: [B, B - 1] int64, the other rows from the nearest to the farthest.
        num_neighbors: how many of them, counted from the nearest, are neighbours.
    """

    similarity: Tensor
    order: Tensor
    num_neighbors: int

    @staticmethod
    @torch.no_grad()
    def of(features: Tensor, num_neighbors: int) -> NeighborGraph:
        """Graph of ``features`` [B, D]; ``num_neighbors`` is clamped to B - 1."""
        rows = unit_rows(full_precision(features))
        similarity = rows @ rows.T
        # -inf puts each row last in its own list; the last column is then dropped
        ranked = similarity.clone()
        ranked.fill_diagonal_(-torch.inf)
        order = ranked.argsort(dim=1, descending=True, stable=True)[:, :-1]
        return NeighborGraph(similarity, order, min(num_neighbors, max(len(features) - 1, 0)))

    @property
    def neighbors(self) -> Tensor:
        """[B, K] int64: the neighbours of each row, nearest first (the paper's X+)."""
        return self.order[:, : self.num_neighbors]

    @property
    def others(self) -> Tensor:
        """[B, B - 1 - K] int64: everything else, nearest first (the paper's X-)."""
        return self.order[:, self.num_neighbors :]

    def is_neighbor(self) -> Tensor:
        """[B, B] bool: True at (i, j) where j is a neighbour of i."""
        mask = torch.zeros_like(self.similarity, dtype=torch.bool)
        return mask.scatter_(1, self.neighbors, True)
