"""Proxies: convex combinations of the features of a set."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avalanche_proxyfda._checks import check_count

_RANK = 8  # width of queries and keys
_HIDDEN = 14  # channels between the two convolutions of a head
_MOST = 40.0  # limit of attention logits, so that their exponentials stay finite in float32


def proxy_count(members: int, ratio: float, most: int) -> int:
    """Return the number of proxies of a set: ``ratio`` x ``members``, between 1 and ``most``.

    The product is rounded. An empty set and ``ratio`` 0 give 0.

    Example:
        >>> from avalanche_proxyfda.losses.proxies import proxy_count
        >>> proxy_count(8, 0.4, most=32), proxy_count(55, 0.4, most=32)
        (3, 22)
    """
    if members == 0 or ratio == 0:
        return 0
    return min(max(1, math.floor(ratio * members + 0.5)), most)


class Pooling(NamedTuple):
    """The weights of ``count`` proxies for each of C sets with S members each."""

    over_members: Tensor
    """[C, count, S], S of the paper: a softmax over the members. It pools similarities."""
    over_batch: Tensor
    """[C, count, B], ``over_members`` scattered to the columns of the batch. With attention,
    each column is divided by the attention's normaliser of its row in the set."""


class PoolingHead(nn.Module):
    """Two convolutions over the members of a set; the second has one channel a proxy.

    The first convolution has kernel 1. It is linear, so it commutes with the attention's
    averages, and :class:`ProxyGenerator` applies its weight before the attention.

    Args:
        dim: D of the features.
        max_proxies: channels of the second convolution.
        kernel_size: kernel of the second convolution.
    """

    def __init__(self, dim: int, max_proxies: int, kernel_size: int) -> None:
        super().__init__()
        # on meta, because the initialisation of torch's modules draws from the global generator
        self.inner = nn.Linear(dim, _HIDDEN, device="meta")
        self.outer = nn.Conv1d(
            _HIDDEN,
            max_proxies,
            kernel_size,
            padding=kernel_size // 2,
            bias=False,  # the softmax over the members would cancel it
            device="meta",
        )

    def forward(self, hidden: Tensor, count: int) -> Tensor:
        """Return pooling weights [C, count, S] from the first convolution's output [C, S, 14]."""
        active = F.gelu(hidden + self.inner.bias).transpose(1, 2)
        logits: Tensor = self.outer(active)[:, :count]
        return logits.softmax(dim=-1)


class ProxyGenerator(nn.Module):
    """Learns the pooling weights that turn a set of features into proxies of that set.

    The generator is that of the paper (Huang et al., ICML 2025). Self-attention relates the
    members X of a set and gives X' = A X. A head of two convolutions over the members, sorted
    from the nearest to the farthest, gives one logit for each proxy and member. A softmax over
    the members gives S, and the proxies are S X'. Neighbours and non-neighbours have separate
    heads and separate attention, so neither set sees the other.

    A proxy lies in the convex hull of its own set, because the values of the attention are the
    features themselves. Queries and keys have 8 channels, and a head has 14 between its
    convolutions. These widths, the GELU and the kernels (1, then 3) are ours: the paper gives
    23.6 K parameters in all. At D = 512 and 25 proxies (a batch of 64) there are 24 656.

    Args:
        dim: D of the features.
        max_proxies: upper limit of the proxies of a set.
        kernel_size: kernel of the second convolution; 3 mixes members of similar rank, and 1
            makes pooling independent of the order.
        attention: False pools the features themselves, the paper's "attention-free" ablation.
        generator: source of the initial weights; None takes torch's global generator.

    Raises:
        TypeError, ValueError: for sizes below 1 or an even ``kernel_size``.

    Example:
        >>> from avalanche_proxyfda import ProxyGenerator
        >>> sum(p.numel() for p in ProxyGenerator(512, max_proxies=25).parameters())
        24656
    """

    def __init__(
        self,
        dim: int,
        max_proxies: int = 32,
        kernel_size: int = 3,
        attention: bool = True,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.dim = check_count("dim", dim, 1)
        self.max_proxies = check_count("max_proxies", max_proxies, 1)
        if check_count("kernel_size", kernel_size, 1) % 2 == 0:
            raise ValueError(f"kernel_size={kernel_size} must be odd, so that it has a centre")
        self.near = PoolingHead(dim, max_proxies, kernel_size)
        self.far = PoolingHead(dim, max_proxies, kernel_size)
        self.query = nn.Linear(dim, _RANK, bias=False, device="meta") if attention else None
        self.key = nn.Linear(dim, _RANK, bias=False, device="meta") if attention else None
        self.to_empty(device="cpu")
        for weight in self.parameters():
            if weight.ndim > 1:
                nn.init.kaiming_uniform_(weight, a=math.sqrt(5), generator=generator)
            else:
                nn.init.zeros_(weight)

    def encode(self, rows: Tensor) -> Tensor:
        """Return the projections of a batch, which all its sets share.

        Args:
            rows: [B, D], unit rows; they receive no gradient.

        Returns:
            [B, 44]: the first convolution of both heads (14 channels each), query and key (8
            channels each). [B, 28] without attention.
        """
        layers = [self.near.inner, self.far.inner]
        if self.query is not None and self.key is not None:
            layers += [self.query, self.key]
        weight = torch.cat([layer.weight for layer in layers])
        # entries of unit rows are about 1/sqrt(D); the layers are initialised for entries of 1
        return F.linear(rows.detach().to(weight.dtype) * math.sqrt(self.dim), weight)

    def attention(self, projections: Tensor) -> Tensor | None:
        """Return exp(query . key / sqrt(8)) of all rows, [B, B]; None without attention.

        All sets of a batch share this matrix. The attention of a set is the matrix with the
        columns of other rows set to zero, divided by the sums of its rows.
        """
        if self.query is None:
            return None
        query, key = projections[:, 2 * _HIDDEN :].chunk(2, dim=1)
        logits = query @ key.T / math.sqrt(_RANK)
        return logits.clamp(-_MOST, _MOST).exp()

    def pool(
        self,
        projections: Tensor,
        attention: Tensor | None,
        members: Tensor,
        is_member: Tensor,
        count: int,
        near: bool,
    ) -> Pooling:
        """Return the pooling weights of ``count`` proxies for each of C sets.

        The weights of proxies over the batch are ``(over_batch @ attention) * is_member``, or
        ``over_batch`` itself without attention.

        Args:
            projections: [B, 44] from :meth:`encode`.
            attention: [B, B] from :meth:`attention`, or None.
            members: [C, S] int64, the rows of the batch that form each set, nearest first.
            is_member: [C, B] bool, the same sets.
            count: proxies of a set, at most ``max_proxies``.
            near: True takes the head of the neighbours, False that of the others.
        """
        head, start = (self.near, 0) if near else (self.far, _HIDDEN)
        hidden = projections[:, start : start + _HIDDEN]
        batch = len(projections)
        if attention is None:
            over_members = head(hidden[members], count)
            scattered = over_members
        else:
            # one product gives sums and normalisers of the attention for all rows and sets
            columns = F.pad(hidden, (0, 1), value=1.0)
            sums = attention @ (columns * is_member.unsqueeze(2))
            sums = sums.gather(1, members.unsqueeze(2).expand(-1, -1, _HIDDEN + 1))
            normaliser = sums[:, :, _HIDDEN:]
            over_members = head(sums[:, :, :_HIDDEN] / normaliser, count)
            scattered = over_members / normaliser.transpose(1, 2)
        empty = scattered.new_zeros(len(members), count, batch)
        index = members.unsqueeze(1).expand(-1, count, -1)
        return Pooling(over_members, empty.scatter(2, index, scattered))


def spread_hinge(proxies: Tensor) -> Tensor:
    """Return the variance term of each set, which is large where its proxies are close.

    L_var = 1/D sum over dimensions of max(0, 1 - sqrt(Var + 1e-4)), as in the paper (Eq. 3 and 4)
    and in VICReg (Bardes et al., 2022). Var is the unbiased variance over the proxies of a set.
    The coordinates of unit rows have deviations of about 1/sqrt(D), so the term never saturates.

    Args:
        proxies: [C, P, D], unit rows.

    Returns:
        [C]; zeros if P < 2, because one proxy has no variance.

    Example:
        >>> import torch
        >>> from avalanche_proxyfda.losses.proxies import spread_hinge
        >>> spread_hinge(torch.tensor([[[1.0, 0.0], [1.0, 0.0]]])).tolist()  # two equal proxies
        [0.9900000095367432]
    """
    if proxies.shape[1] < 2:
        return proxies.new_zeros(len(proxies))
    # the epsilon keeps the gradient of the root finite where all proxies agree
    deviation = (proxies.var(dim=1) + 1e-4).sqrt()
    return F.relu(1 - deviation).mean(dim=-1)
