"""Losses that are sums over anchors, a chunk of anchors at a time."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.utils.checkpoint import checkpoint

from avalanche_proxyfda.losses.base import ChunkSize

Terms = tuple[Tensor, ...]

_KEPT = 2**20  # below this, a whole batch is kept for backward: quicker than computing it again
_BLOCK = 2**21  # numbers that one chunk may hold in its largest tensor: 8 MiB in float32


def sum_over_anchors(
    part: Callable[..., Terms], batch: int, chunk_size: ChunkSize, numbers: int, *given: Tensor
) -> Terms:
    """Sum of ``part(first, last, *given)`` over chunks first:last of a batch's anchors.

    Between forward and backward a chunk keeps nothing but ``given``, which all chunks share:
    what it computes is computed again in backward, and let go before the next chunk's turn.

    Args:
        part: gives scalars, summed over the anchors from ``first`` to before ``last``.
        batch: B, the number of anchors, at least 1.
        chunk_size: anchors at a time; ``"auto"`` bounds a chunk's tensors to about 8 MiB each
            (or to one anchor), and has a small batch kept for backward as a whole.
        numbers: entries that one anchor adds to the largest tensor within ``part``.
        given: tensors of the batch that ``part`` reads.
    """
    if chunk_size != "auto":
        size = chunk_size
    elif batch * numbers <= _KEPT:
        return part(0, batch, *given)
    else:
        size = max(1, _BLOCK // numbers)
    total: Terms = ()
    for first in range(0, batch, size):
        last = min(first + size, batch)
        terms: Terms = checkpoint(
            part, first, last, *given, use_reentrant=False, preserve_rng_state=False
        )
        total = tuple(t + a for t, a in zip(total, terms, strict=True)) if total else terms
    return total
