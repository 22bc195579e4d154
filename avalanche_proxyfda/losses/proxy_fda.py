"""Proxy-FDA: FDA over neighbours and non-neighbours, enriched by generated proxies."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from avalanche_proxyfda.losses.base import (
    ChunkSize,
    GraphLoss,
    NegativeWeight,
    check_amount,
    edge_weight,
    tell,
    without_autocast,
)
from avalanche_proxyfda.losses.chunks import Terms, sum_over_anchors
from avalanche_proxyfda.losses.fda import pair_terms
from avalanche_proxyfda.losses.neighbors import NeighborGraph, full_precision, unit_rows
from avalanche_proxyfda.losses.proxies import ProxyGenerator, proxy_count, spread_hinge


class ProxyFDATerms(NamedTuple):
    """The two scalars of a batch; add both to the loss that is differentiated."""

    alignment: Tensor
    """Reaches the student, the scale and the bias."""
    generator: Tensor
    """Reaches the proxy generator and nothing else."""


class ProxyFDALoss(GraphLoss):
    """Proxy-FDA (Huang et al., ICML 2025, section 3.2 and appendix B).

    For each anchor the generator pools ``proxy_ratio`` x |set| proxies from its neighbours
    and as many, in proportion, from the others; teacher similarities are pooled by the same
    weights. *Alignment* is FDA's term summed over real features and proxies, divided by
    their number, so that its weight means the same as for FDA. The pooling weights are
    constants there: the student learns through the features that were pooled.

    *Generator* keeps proxies on the manifold of their own set (the sigmoid term, +1 towards
    own members and -1 towards the other set's, scale and bias held constant) and apart from
    each other (:func:`~avalanche_proxyfda.losses.proxies.spread_hinge`); features are
    constants there. Its exact form is our reading.

    With ``proxy_ratio=0`` alignment equals :class:`FDALoss`. Beyond batches of about 64,
    anchors are processed in chunks whose activations are computed again in backward; saved
    are the cosines of the batch, one [B, B] matrix (two with ``detach_proxies``), and O(B D).

    Args:
        dim: D of the student's features.
        num_neighbors: K; clamped in a batch of K or fewer samples, with one warning.
        proxy_ratio: s, proxies per member of a set.
        variance_weight: alpha, weight of the spread term in the generator's objective.
        negative_weight, init_logit_scale, init_logit_bias, learnable, chunk_size: as in FDA.
        max_proxies: the most proxies a set can get; sets that ask for more get this many,
            with one warning. 32 serves batches of up to 98 samples at the defaults.
        kernel_size: of the generator's convolutions.
        detach_proxies: treat proxies as constants in alignment too.
        generator: source of the initial weights; None takes torch's global one.

    Raises:
        TypeError, ValueError: for an option of the wrong type or out of range.
    """

    def __init__(
        self,
        dim: int,
        num_neighbors: int = 16,
        proxy_ratio: float = 0.4,
        variance_weight: float = 1.0,
        negative_weight: NegativeWeight = "similarity",
        init_logit_scale: float = 10.0,
        init_logit_bias: float = -10.0,
        learnable: bool = True,
        max_proxies: int = 32,
        kernel_size: int = 3,
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
            dim, max_proxies, kernel_size=kernel_size, generator=generator
        )
        self._cap_told = False

    def forward(self, student: Tensor, teacher: Tensor) -> ProxyFDATerms:
        """Both terms of one batch.

        Args:
            student: [B, D], D as given at construction; receives the gradient.
            teacher: [B, D'], receives none; D' may differ from D.

        Raises:
            TypeError, ValueError: for anything but two float matrices with equal B, or a
                student of another D.
        """
        self.check_batch(student, teacher)
        if student.shape[1] != self.generator.dim:
            raise ValueError(
                f"student has D={student.shape[1]}, but the loss was built with "
                f"dim={self.generator.dim}"
            )
        with without_autocast(student):
            rows = unit_rows(full_precision(student))
            if len(rows) < 2:
                nothing = rows.sum() * 0.0
                return ProxyFDATerms(nothing, nothing.detach())
            self._tell_of_cap(len(rows))
            return self._terms(rows, unit_rows(full_precision(teacher.detach())))

    def counts(self, batch: int) -> tuple[int, int]:
        """Proxies from neighbours and from the others in a batch of ``batch`` samples."""
        near, most = min(self.num_neighbors, batch - 1), self.generator.max_proxies
        return (
            proxy_count(near, self.proxy_ratio, most),
            proxy_count(batch - 1 - near, self.proxy_ratio, most),
        )

    def _tell_of_cap(self, batch: int) -> None:
        most = self.generator.max_proxies
        near = min(self.num_neighbors, batch - 1)
        wanted = proxy_count(max(near, batch - 1 - near), self.proxy_ratio, batch)
        if wanted > most and not self._cap_told:
            self._cap_told = True
            tell(
                f"max_proxies={most} caps the {wanted} proxies that proxy_ratio="
                f"{self.proxy_ratio} asks for in a batch of {batch}: pass max_proxies={wanted} "
                "(said once)"
            )

    def _terms(self, rows: Tensor, known: Tensor) -> ProxyFDATerms:
        batch, dim = rows.shape
        counts = self.counts(batch)
        cosine = rows @ rows.T
        reach = rows @ rows.detach().T if self.detach_proxies else cosine
        tokens = self.generator.encode(rows)
        # of an anchor: its proxies, in feature space or over the batch; the tokens of its sets
        numbers = max(max(counts) * max(dim, batch), batch * tokens[0].numel())
        alignment, generator = sum_over_anchors(
            self._part, batch, self.chunk_size, numbers,
            rows.detach(), known, cosine, reach, tokens,
        )  # fmt: skip
        return ProxyFDATerms(alignment / (batch * (batch - 1 + sum(counts))), generator / batch)

    def _part(
        self,
        first: int,
        last: int,
        rows: Tensor,
        known: Tensor,
        cosine: Tensor,
        reach: Tensor,
        tokens: Tensor,
    ) -> Terms:
        """Both terms of the anchors first:last, summed over those anchors.

        A proxy is A x, with A its pooling weights over the batch. All but its spread follows
        from the cosines C of the rows: (A C)_j is its product with row j, A C A' its squared
        norm. ``rows`` are constants; ``cosine`` holds C with its gradient, ``reach`` with the
        gradient that proxies pass on.
        """
        graph = NeighborGraph.of_units(known, self.num_neighbors, first, last)
        similarity = graph.similarity.to(rows.dtype)
        neighbor = graph.is_neighbor()
        alignment = pair_terms(self, cosine[first:last], graph, neighbor).sum()
        pulled, generator = rows.new_zeros(()), rows.new_zeros(())
        owners = (neighbor, ~(neighbor | graph.itself))
        sides = zip((True, False), owners, graph.sets(), self.counts(len(rows)), strict=True)
        for positive, own, members, count in sides:
            if count == 0:
                continue
            pooling = self.generator.pool(tokens, members, count).to(rows.dtype)
            spread = members.unsqueeze(1).expand_as(pooling)
            empty = pooling.new_zeros(last - first, count, len(rows))
            weights = empty.scatter(2, spread, pooling)
            # generator: the features are constants, the weights carry the gradient
            products = weights @ reach.detach()
            scale = _inverse_norm(products, weights)
            contrast = self._contrast(products * scale, own, graph.itself)
            hinge = spread_hinge((weights * scale) @ rows).sum()
            generator = generator + contrast + self.variance_weight * hinge
            # alignment: the weights are constants, the cosines carry the gradient
            fixed, scale = weights.detach(), scale.detach()
            if not self.detach_proxies:
                scale = _inverse_norm(fixed @ reach, fixed)
            toward = (fixed @ reach[first:last].unsqueeze(2) * scale).squeeze(2)
            pooled = (fixed @ similarity.unsqueeze(2)).squeeze(2)
            weight = edge_weight(pooled, positive, self.negative_weight)
            pulled = pulled + self.sigmoid_loss(toward, weight).sum()
        return alignment + pulled, generator

    def _contrast(self, cosine: Tensor, own: Tensor, itself: Tensor) -> Tensor:
        """Sigmoid term of proxies and all rows but the anchor: mean over both, summed.

        Args:
            cosine: [C, P, B].
            own: [C, B] bool, members of the proxies' set.
            itself: [C, B] bool, the anchor.
        """
        scale, bias = self.log_scale.detach().exp(), self.bias.detach()
        toward = torch.where(own, -1.0, 1.0).to(cosine.dtype).unsqueeze(1)
        terms = F.softplus(toward * (scale.to(cosine.dtype) * cosine + bias.to(cosine.dtype)))
        terms = terms.masked_fill(itself.unsqueeze(1), 0.0)
        return terms.sum() / (cosine.shape[1] * (cosine.shape[2] - 1))


def _inverse_norm(products: Tensor, weights: Tensor) -> Tensor:
    """[C, P, 1]: 1 / norm of proxies, from A C and A; proxies of zero rows get a bound."""
    square = (products * weights).sum(dim=2, keepdim=True)
    return square.clamp_min(1e-8).rsqrt()
