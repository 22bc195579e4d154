"""SoftFDA over the samples of a batch and over generated proxies."""

from __future__ import annotations

import torch
from torch import Tensor

from avalanche_proxyfda._tensors import full_precision, unit_rows, without_autocast
from avalanche_proxyfda.losses.chunks import ChunkSize, Sums, sum_over_queries
from avalanche_proxyfda.losses.graph import NegativeWeight
from avalanche_proxyfda.losses.neighbors import NeighborGraph
from avalanche_proxyfda.losses.proxy_fda import ProxyFDALoss, ProxyFDATerms, inverse_norm
from avalanche_proxyfda.losses.soft_rows import Divergence, SoftRows, check_columns, with_columns


class SoftProxyFDALoss(SoftRows, ProxyFDALoss):
    """SoftFDA with the paper's proxies as columns (ours; Huang et al., ICML 2025, Eq. 3 and 4).

    The generator is that of :class:`~avalanche_proxyfda.losses.ProxyFDALoss`, with its own
    objective. The student's columns hold the proxies that the pooling weights make of the
    student's rows, and the teacher's columns those that the same weights make of the teacher's.
    So alignment and its gradient are exactly zero where student and teacher agree. The pooling
    weights are constants in the alignment. In the Bregman form, the weights of proxies are the
    pooled similarities of Eq. 5. Scale and bias are constants.

    The loss saves two matrices [B, B + M] and O((B + M) D) numbers for backward, and processes
    batches above about 80 samples in chunks, as Proxy-FDA.

    Args:
        dim: D of the student's features.
        scale, divergence: as in :class:`~avalanche_proxyfda.losses.SoftFDALoss`.
        num_neighbors: K, which splits the batch into the sets that proxies are pooled from.
        proxy_ratio: proxies for each member of a set.
        variance_weight: weight of the variance term in the generator's objective.
        negative_weight, init_logit_scale, init_logit_bias, max_proxies, chunk_size, generator:
            as in :class:`~avalanche_proxyfda.losses.ProxyFDALoss`.

    Raises:
        TypeError, ValueError: for an option of the wrong type or out of range.

    Example:
        >>> import torch
        >>> from avalanche_proxyfda import SoftProxyFDALoss
        >>> rows = torch.eye(5)
        >>> source = torch.Generator().manual_seed(0)
        >>> float(SoftProxyFDALoss(5, num_neighbors=2, generator=source)(rows, rows).alignment)
        0.0
    """

    def __init__(
        self,
        dim: int,
        scale: float | None = None,
        divergence: Divergence = "kl",
        num_neighbors: int = 8,
        proxy_ratio: float = 0.4,
        variance_weight: float = 5.0,
        negative_weight: NegativeWeight = "similarity",
        init_logit_scale: float = 10.0,
        init_logit_bias: float = -10.0,
        max_proxies: int = 32,
        chunk_size: ChunkSize = "auto",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(
            dim,
            num_neighbors=num_neighbors,
            proxy_ratio=proxy_ratio,
            variance_weight=variance_weight,
            negative_weight=negative_weight,
            init_logit_scale=init_logit_scale,
            init_logit_bias=init_logit_bias,
            learnable=False,
            max_proxies=max_proxies,
            chunk_size=chunk_size,
            generator=generator,
        )
        self.take(divergence, scale)

    def uses_neighbors(self) -> bool:
        """Return True: K splits the batch for the generator."""
        return True

    def forward(
        self, student: Tensor, teacher: Tensor, columns: Tensor | None = None
    ) -> ProxyFDATerms:
        """Return both terms of one batch.

        Args:
            student: [B, D], D as given at construction; receives the gradient of the alignment.
            teacher: [B, D'], receives none; D' may differ from D without ``columns``.
            columns: [M, D], further columns, which receive no gradient; None takes none.

        Raises:
            TypeError, ValueError: for inputs that are not float matrices of these shapes.
        """
        self.check_batch(student, teacher)
        self.check_width(student)
        if columns is not None:
            check_columns(columns, student, teacher)
        with without_autocast(student):
            rows = unit_rows(full_precision(student))
            if len(rows) < 2:
                zero = rows.sum() * 0.0
                return ProxyFDATerms(zero, zero.detach())
            self.check_cap(len(rows))
            known = unit_rows(full_precision(teacher.detach()).to(rows.dtype))
            fixed = None if columns is None else unit_rows(columns.detach().to(rows.dtype))
            return self._of_units(rows, known, fixed)

    def _of_units(self, rows: Tensor, known: Tensor, fixed: Tensor | None) -> ProxyFDATerms:
        """Return both terms of unit rows."""
        batch, dim = rows.shape
        cosine, similarity = (x @ with_columns(x, fixed).T for x in (rows, known))
        counts = sum(self.counts(batch))
        projections = self.generator.encode(rows)
        numbers = max(counts * max(dim, batch), batch * projections.shape[1], cosine.shape[1])
        inputs = (rows.detach(), cosine, similarity, projections)
        alignment, generator = sum_over_queries(
            self._soft_part, batch, self.chunk_size, numbers, *inputs
        )
        columns = cosine.shape[1] - 1 + counts
        return ProxyFDATerms(self.mean(alignment, batch, columns), generator / batch)

    def _soft_part(
        self,
        first: int,
        last: int,
        rows: Tensor,
        cosine: Tensor,
        similarity: Tensor,
        projections: Tensor,
    ) -> Sums:
        """Return both terms, summed over the queries first:last.

        Args:
            first: row of the first query.
            last: row after the last query.
            rows: [B, D], the student's unit rows, without gradient.
            cosine: [B, B + M], the student's cosines, with their gradient.
            similarity: [B, B + M], the teacher's.
            projections: [B, 44], see :meth:`ProxyGenerator.encode`.
        """
        batch = len(rows)
        place = torch.arange(batch, device=rows.device)
        itself = place[first:last].unsqueeze(1) == place
        neighbors = min(self.num_neighbors, batch - 1)
        graph = NeighborGraph(similarity[first:last, :batch], itself, neighbors)
        sides = cosine[first:last], similarity[first:last]
        if sum(self.counts(batch)) == 0:
            return self.between(*sides, graph), rows.new_zeros(())
        made = self.make_proxies(projections, graph, graph.is_neighbor(), rows.dtype)
        generator, _ = self.objective(made, rows, cosine[:, :batch], itself)
        fixed, joined = made.weights.detach(), list[Tensor]()
        for side, whole in zip(sides, (cosine, similarity), strict=True):
            among = whole[:, :batch]
            of_proxies = fixed @ among[first:last].unsqueeze(2) * inverse_norm(fixed @ among, fixed)
            joined.append(torch.cat((side, of_proxies.squeeze(2)), dim=1))
        return self.between(joined[0], joined[1], graph, made.edges), generator
