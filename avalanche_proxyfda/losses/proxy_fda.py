"""Proxy-FDA: FDA over neighbours and non-neighbours, enriched by generated proxies."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from avalanche_proxyfda.losses.base import (
    GraphLoss,
    NegativeWeight,
    check_amount,
    check_count,
    edge_weight,
    without_autocast,
)
from avalanche_proxyfda.losses.fda import pair_terms
from avalanche_proxyfda.losses.neighbors import NeighborGraph, full_precision, unit_rows
from avalanche_proxyfda.losses.proxies import ProxyGenerator, proxy_count, spread_hinge

_BLOCK = 2**23  # numbers that one chunk of anchors may hold in its largest tensor
_SMALL = 2**20  # below this, a whole batch is kept for backward: quicker than computing it again


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
    anchors are processed in chunks whose activations are computed again in backward, so
    O(B^2 + B D) bytes are saved.

    Args:
        dim: D of the student's features.
        num_neighbors: K; clamped in a batch of K or fewer samples, with one warning.
        proxy_ratio: s, proxies per member of a set.
        variance_weight: alpha, weight of the spread term in the generator's objective.
        negative_weight, init_logit_scale, init_logit_bias, learnable: as in FDA.
        max_proxies: the most proxies a set can get; sets that ask for more get this many,
            with one warning. 32 serves batches of up to 98 samples at the defaults.
        kernel_size: of the generator's convolutions.
        detach_proxies: treat proxies as constants in alignment too.
        chunk_size: anchors at a time, computed again in backward; None chooses, and bounds a
            chunk to about 32 MiB a tensor.
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
        chunk_size: int | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(
            num_neighbors, negative_weight, init_logit_scale, init_logit_bias, learnable
        )
        self.proxy_ratio = check_amount("proxy_ratio", proxy_ratio)
        self.variance_weight = check_amount("variance_weight", variance_weight)
        self.detach_proxies = detach_proxies
        self.chunk_size = (
            chunk_size if chunk_size is None else check_count("chunk_size", chunk_size, 1)
        )
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
            graph = NeighborGraph.of(teacher, self.num_neighbors)
            return self._terms(rows, graph)

    def counts(self, batch: int) -> tuple[int, int]:
        """Proxies from neighbours and from the others in a batch of ``batch`` samples."""
        near = min(self.num_neighbors, batch - 1)
        most = self.generator.max_proxies
        wanted = proxy_count(batch - 1 - near, self.proxy_ratio, batch)
        if wanted > most and not self._cap_told:
            self._cap_told = True
            warnings.warn(
                f"max_proxies={most} caps the {wanted} proxies that proxy_ratio="
                f"{self.proxy_ratio} asks for in a batch of {batch}: pass max_proxies={wanted} "
                "(said once)",
                stacklevel=4,
            )
        return (
            proxy_count(near, self.proxy_ratio, most),
            proxy_count(batch - 1 - near, self.proxy_ratio, most),
        )

    def _terms(self, rows: Tensor, graph: NeighborGraph) -> ProxyFDATerms:
        batch = len(rows)
        counts = self.counts(batch)
        cosine = rows @ rows.T
        alignment = pair_terms(self, cosine, graph).sum()
        generator = rows.new_zeros(())
        if sum(counts):
            similarity = graph.similarity.to(rows.dtype)
            tokens = self.generator.encode(rows)
            reach = rows @ rows.detach().T if self.detach_proxies else cosine
            widest = max(max(counts) * max(rows.shape[1], batch), batch * batch)
            small = self.chunk_size is None and batch * widest <= _SMALL
            size = self.chunk_size or max(1, _BLOCK // widest)
            for start in range(0, batch, size):
                chunk = torch.arange(start, min(start + size, batch), device=rows.device)
                inputs = (rows.detach(), reach, tokens, similarity, graph.order, chunk, counts)
                if small:
                    pulled, taught = self._proxy_terms(*inputs)
                else:
                    pulled, taught = checkpoint(
                        self._proxy_terms, *inputs, use_reentrant=False, preserve_rng_state=False
                    )
                alignment, generator = alignment + pulled, generator + taught
        return ProxyFDATerms(alignment / (batch * (batch - 1 + sum(counts))), generator / batch)

    def _proxy_terms(
        self,
        rows: Tensor,
        reach: Tensor,
        tokens: Tensor,
        similarity: Tensor,
        order: Tensor,
        chunk: Tensor,
        counts: tuple[int, int],
    ) -> tuple[Tensor, Tensor]:
        """Both terms of the anchors in ``chunk``, summed over those anchors.

        A proxy is A x, with A its pooling weights over the batch. All but its spread follows
        from the cosines C of the rows: (A C)_j is its product with row j, A C A' its squared
        norm. ``rows`` are constants, ``reach`` holds C with its gradient.
        """
        near = min(self.num_neighbors, len(rows) - 1)
        itself = chunk.unsqueeze(1) == torch.arange(len(rows), device=rows.device)
        constant = reach.detach()
        alignment, generator = rows.new_zeros(()), rows.new_zeros(())
        sides = zip((True, False), order[chunk].tensor_split([near], dim=1), counts, strict=True)
        for positive, members, count in sides:
            if count == 0:
                continue
            pooling = self.generator.pool(tokens, members, count).to(rows.dtype)
            spread = members.unsqueeze(1).expand_as(pooling)
            empty = pooling.new_zeros(len(chunk), count, len(rows))
            weights = empty.scatter(2, spread, pooling)
            # generator: the features are constants, the weights carry the gradient
            products = weights @ constant
            scale = _inverse_norm(products, weights)
            own = torch.zeros_like(itself).scatter(1, members, True)
            contrast = self._contrast(products * scale, own, itself)
            hinge = spread_hinge((weights * scale) @ rows).sum()
            generator = generator + contrast + self.variance_weight * hinge
            # alignment: the weights are constants, the cosines carry the gradient
            fixed, scale = weights.detach(), scale.detach()
            if not self.detach_proxies:
                scale = _inverse_norm(fixed @ reach, fixed)
            cosine = (fixed @ reach[chunk].unsqueeze(2) * scale).squeeze(2)
            pooled = (fixed @ similarity[chunk].unsqueeze(2)).squeeze(2)
            weight = edge_weight(pooled, positive, self.negative_weight)
            alignment = alignment + self.sigmoid_loss(cosine, weight).sum()
        return alignment, generator

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
