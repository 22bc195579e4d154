"""Proxy-FDA: FDA over the samples of a batch and over generated proxies."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from avalanche_proxyfda._checks import check_amount
from avalanche_proxyfda._tensors import full_precision, unit_rows, without_autocast
from avalanche_proxyfda.losses.chunks import ChunkSize, Sums, sum_over_queries
from avalanche_proxyfda.losses.fda import pair_terms
from avalanche_proxyfda.losses.graph import GraphLoss, NegativeWeight, edge_weight, warn
from avalanche_proxyfda.losses.neighbors import NeighborGraph
from avalanche_proxyfda.losses.proxies import ProxyGenerator, proxy_count, spread_hinge


class ProxyFDATerms(NamedTuple):
    """The two scalars of a batch; a training loss adds both.

    Example:
        >>> import torch
        >>> from avalanche_proxyfda import ProxyFDALoss
        >>> student = torch.eye(4, requires_grad=True)
        >>> terms = ProxyFDALoss(dim=4, num_neighbors=1)(student, torch.eye(4))
        >>> terms._fields
        ('alignment', 'generator')
        >>> sum(terms).backward()
        >>> student.grad.shape
        torch.Size([4, 4])
    """

    alignment: Tensor
    """Its gradient reaches the student, the scale and the bias."""
    generator: Tensor
    """Its gradient reaches the proxy generator only."""


class Proxies(NamedTuple):
    """The proxies of C queries in a batch of B rows, those of the neighbours first."""

    weights: Tensor
    """[C, P, B], the pooling weights over the batch; they carry the generator's gradient."""
    own: Tensor
    """[C, P, B] bool, True for the members of the proxy's set."""
    edges: Tensor
    """[C, P], the signed weights w of the pairs of a query and a proxy; constants."""
    near: int
    """Number of proxies of the neighbours."""


class ProxyFDALoss(GraphLoss):
    """Proxy-FDA (Huang et al., ICML 2025, Eq. 2 to 5).

    Each query has two sets: its neighbours and the other rows. The generator pools
    ``proxy_ratio`` x |set| proxies from each set, and pools the teacher's similarities with the
    softmax S of the same set (:class:`~avalanche_proxyfda.losses.proxies.ProxyGenerator`).

    *Alignment* (Eq. 5) is FDA's term summed over rows and proxies and divided by their number,
    so its weight means the same as for FDA. The divisor is ours. The pooling weights are
    constants here (ours): the student learns through the pooled features.

    *Generator* (Eq. 3 and 4) has two parts; the features, the scale and the bias are constants
    in both. The sigmoid term attracts a proxy to the members of its own set (weight +1) and
    repels it from the members of the other set (weight -1). The variance term, weighted by
    alpha = 5, moves the proxies of a set apart
    (:func:`~avalanche_proxyfda.losses.proxies.spread_hinge`).

    With ``proxy_ratio=0``, alignment equals :class:`~avalanche_proxyfda.losses.fda.FDALoss`.
    Batches above about 80 samples are processed in chunks of queries, which backward computes
    again. The loss then saves the cosines of the batch, one [B, B] matrix (two with
    ``detach_proxies``), and O(B D) numbers. An accelerator saves a batch of one chunk whole, see
    :func:`~avalanche_proxyfda.losses.chunks.block_bytes`.

    Args:
        dim: D of the student's features.
        num_neighbors: K; the loss clamps it in a batch of K or fewer samples, with one warning.
        proxy_ratio: s, proxies for each member of a set.
        variance_weight: alpha, weight of the variance term in the generator's objective.
        negative_weight, init_logit_scale, init_logit_bias, learnable, chunk_size: as in FDA.
        max_proxies: upper limit of the proxies of a set, with one warning where it applies.
            At the defaults, 32 is enough for batches of up to 90 samples.
        kernel_size: width of the heads' second convolution.
        attention: False leaves the generator's attention out, an ablation of the paper.
        detach_proxies: treat proxies as constants in alignment too.
        generator: source of the initial weights; None takes torch's global generator.

    Raises:
        TypeError, ValueError: for an option of the wrong type or out of range.

    Example:
        >>> import torch
        >>> from avalanche_proxyfda import FDALoss, ProxyFDALoss
        >>> features = torch.randn(16, 8, generator=torch.Generator().manual_seed(0))
        >>> loss = ProxyFDALoss(dim=8, num_neighbors=5, proxy_ratio=0.4)
        >>> loss.counts(16)  # proxies of 5 neighbours and of 10 others
        (2, 4)
        >>> sum(loss(features, features)).backward()  # alignment + generator
        >>> without = ProxyFDALoss(dim=8, num_neighbors=5, proxy_ratio=0.0)
        >>> fda = FDALoss(num_neighbors=5)
        >>> torch.allclose(without(features, features).alignment, fda(features, features))
        True
    """

    def __init__(
        self,
        dim: int,
        num_neighbors: int = 8,
        proxy_ratio: float = 0.4,
        variance_weight: float = 5.0,
        negative_weight: NegativeWeight = "similarity",
        init_logit_scale: float = 10.0,
        init_logit_bias: float = -10.0,
        learnable: bool = True,
        max_proxies: int = 32,
        kernel_size: int = 3,
        attention: bool = True,
        detach_proxies: bool = False,
        chunk_size: ChunkSize = "auto",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(
            num_neighbors,
            negative_weight,
            init_logit_scale,
            init_logit_bias,
            learnable,
            chunk_size,
        )
        self.proxy_ratio = check_amount("proxy_ratio", proxy_ratio)
        self.variance_weight = check_amount("variance_weight", variance_weight)
        self.detach_proxies = detach_proxies
        self.generator = ProxyGenerator(
            dim, max_proxies, kernel_size=kernel_size, attention=attention, generator=generator
        )
        self._cap_warned = False

    def forward(self, student: Tensor, teacher: Tensor) -> ProxyFDATerms:
        """Return both terms of one batch.

        Args:
            student: [B, D], D as given at construction; receives the gradient.
            teacher: [B, D'], receives none; D' may differ from D.

        Raises:
            TypeError, ValueError: for inputs that are not two float matrices with equal B, or
                for a student of another D.
        """
        self.check_batch(student, teacher)
        self.check_width(student)
        with without_autocast(student):
            rows = unit_rows(full_precision(student))
            if len(rows) < 2:
                zero = rows.sum() * 0.0
                return ProxyFDATerms(zero, zero.detach())
            self.check_cap(len(rows))
            return self._terms(rows, unit_rows(full_precision(teacher.detach())))

    def check_width(self, student: Tensor) -> None:
        """Raise ValueError for a student of another width than the generator's."""
        if student.shape[1] != self.generator.dim:
            raise ValueError(
                f"student has D={student.shape[1]}, but the loss was built with "
                f"dim={self.generator.dim}: build a loss for each width"
            )

    def counts(self, batch: int) -> tuple[int, int]:
        """Return the proxies of the neighbours and of the others, for ``batch`` samples."""
        near, most = min(self.num_neighbors, batch - 1), self.generator.max_proxies
        return (
            proxy_count(near, self.proxy_ratio, most),
            proxy_count(batch - 1 - near, self.proxy_ratio, most),
        )

    def check_cap(self, batch: int) -> None:
        """Warn once if ``max_proxies`` limits the proxies of a set."""
        most = self.generator.max_proxies
        near = min(self.num_neighbors, batch - 1)
        wanted = proxy_count(max(near, batch - 1 - near), self.proxy_ratio, batch)
        if wanted > most and not self._cap_warned:
            self._cap_warned = True
            warn(
                f"max_proxies={most} caps the {wanted} proxies that proxy_ratio="
                f"{self.proxy_ratio} asks for in a batch of {batch} (this warning comes once): "
                f"pass max_proxies={wanted}"
            )

    def _terms(self, rows: Tensor, teacher_rows: Tensor) -> ProxyFDATerms:
        batch, dim = rows.shape
        counts = self.counts(batch)
        cosine = rows @ rows.T
        proxy_cosine = rows @ rows.detach().T if self.detach_proxies else cosine
        projections = self.generator.encode(rows)
        # a query has its proxies, in feature space or over the batch, and sums of the attention
        numbers = max(sum(counts) * max(dim, batch), batch * projections.shape[1])
        inputs = (rows.detach(), teacher_rows, cosine, proxy_cosine, projections)
        alignment, generator = sum_over_queries(
            self._part, batch, self.chunk_size, numbers, *inputs
        )
        return ProxyFDATerms(alignment / (batch * (batch - 1 + sum(counts))), generator / batch)

    def _part(
        self,
        first: int,
        last: int,
        rows: Tensor,
        teacher_rows: Tensor,
        cosine: Tensor,
        proxy_cosine: Tensor,
        projections: Tensor,
    ) -> Sums:
        """Return both terms, summed over the queries first:last.

        A proxy is A x, where A holds its pooling weights over the batch. The cosines C of the
        rows give all quantities except the variance: (A C)_j is the product of a proxy with
        row j, and A C A' is its squared norm. The proxies of both sets form one tensor.

        Args:
            first: row of the first query.
            last: row after the last query.
            rows: [B, D], the student's unit rows, without gradient.
            teacher_rows: [B, D'], the teacher's unit rows.
            cosine: C, [B, B], with the gradient of the rows.
            proxy_cosine: C, [B, B], with the gradient that reaches rows through proxies.
            projections: [B, 44], see :meth:`ProxyGenerator.encode`.
        """
        graph = NeighborGraph.of_units(teacher_rows, self.num_neighbors, first, last)
        neighbor = graph.is_neighbor()
        alignment = pair_terms(self, cosine[first:last], graph, neighbor).sum()
        counts = self.counts(len(rows))
        if sum(counts) == 0:
            return alignment, rows.new_zeros(())
        made = self.make_proxies(projections, graph, neighbor, rows.dtype)
        generator, scale = self.objective(made, rows, proxy_cosine, graph.itself)
        # alignment: the weights are constants, the cosines carry the gradient
        fixed = made.weights.detach()
        if not self.detach_proxies:
            scale = inverse_norm(fixed @ proxy_cosine, fixed)
        query_cosine = (fixed @ proxy_cosine[first:last].unsqueeze(2) * scale).squeeze(2)
        return alignment + self.sigmoid_loss(query_cosine, made.edges).sum(), generator

    def make_proxies(
        self, projections: Tensor, graph: NeighborGraph, neighbor: Tensor, dtype: torch.dtype
    ) -> Proxies:
        """Return the proxies of the graph's queries; there must be at least one.

        Args:
            projections: [B, 44], see :meth:`ProxyGenerator.encode`.
            graph: the teacher's graph of C queries.
            neighbor: [C, B] bool, True for the neighbours of the query.
            dtype: type of the features.
        """
        similarity, counts = graph.similarity.to(dtype), self.counts(graph.itself.shape[1])
        attention = self.generator.attention(projections)
        masks = (neighbor, ~(neighbor | graph.itself))
        over_batch, is_own, edges = [], [], []
        for near, members, is_member, count in zip(
            (True, False), graph.sets(), masks, counts, strict=True
        ):
            if count == 0:
                continue
            pooling = self.generator.pool(projections, attention, members, is_member, count, near)
            over_batch.append(pooling.over_batch)
            is_own.append(is_member.unsqueeze(1).expand(-1, count, -1))
            # the pooled similarities are constants in both terms
            pooled = pooling.over_members.detach().to(dtype) @ similarity.gather(
                1, members
            ).unsqueeze(2)
            edges.append(edge_weight(pooled.squeeze(2), near, self.negative_weight))
        own = torch.cat(is_own, dim=1)
        weights = torch.cat(over_batch, dim=1)
        weights = (weights if attention is None else weights @ attention * own).to(dtype)
        return Proxies(weights, own, torch.cat(edges, dim=1), counts[0])

    def objective(
        self, made: Proxies, rows: Tensor, cosine: Tensor, itself: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the generator's objective, summed over queries, and 1 / norm of the proxies.

        The features are constants, and the weights of the proxies carry the gradient.

        Args:
            made: proxies of C queries.
            rows: [B, D], the student's unit rows, without gradient.
            cosine: [B, B], cosines of the rows.
            itself: [C, B] bool, True for the query.

        Returns:
            A scalar, and [C, P, 1] without gradient.
        """
        weights, near = made.weights, made.near
        products = weights @ cosine.detach()
        scale = inverse_norm(products, weights)
        generator = self._contrast(products * scale, made.own, itself, near)
        proxies = (weights * scale) @ rows
        for proxies_of_set in (proxies[:, :near], proxies[:, near:]):
            hinge = spread_hinge(proxies_of_set).sum()
            generator = generator + self.variance_weight * hinge
        return generator, scale.detach()

    def _contrast(self, cosine: Tensor, own: Tensor, itself: Tensor, near: int) -> Tensor:
        """Return Eq. 3 and 4 without the variance term, summed over queries.

        The paper does not label the query itself, so the sums skip the query (ours). The
        divisor |X| is the size of the batch.

        Args:
            cosine: [C, P, B] cosines of proxies and rows.
            own: [C, P, B] bool, True for the members of the proxy's set.
            itself: [C, B] bool, True for the query.
            near: number of proxies of the neighbours, which come first.
        """
        scale, bias = self.log_scale.detach().exp(), self.bias.detach()
        sign = torch.where(own, -1.0, 1.0).to(cosine.dtype)
        terms = F.softplus(sign * (scale.to(cosine.dtype) * cosine + bias.to(cosine.dtype)))
        terms = terms.masked_fill(itself.unsqueeze(1), 0.0)
        total = cosine.new_zeros(())
        for part in (terms[:, :near], terms[:, near:]):
            if part.shape[1]:
                total = total + part.sum() / part.shape[1]
        return total / cosine.shape[2]


def inverse_norm(products: Tensor, weights: Tensor) -> Tensor:
    """Return [C, P, 1], 1 / norm of proxies from A C and A; a clamp bounds proxies of zero rows."""
    square = (products * weights).sum(dim=2, keepdim=True)
    return square.clamp_min(1e-8).rsqrt()
