"""Proxies: unseen features inside the convex hull of a set of seen ones."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avalanche_proxyfda.losses.base import check_count


def proxy_count(members: int, ratio: float, most: int) -> int:
    """How many proxies a set gets: ``ratio`` x ``members``, rounded, between 1 and ``most``.

    An empty set, or ``ratio`` 0, gets none.
    """
    if members == 0 or ratio == 0:
        return 0
    return min(max(1, math.floor(ratio * members + 0.5)), most)


class ProxyGenerator(nn.Module):
    """Pooling weights that turn a set of features into proxies of that set.

    One attention layer relates the members of a set, then two convolutions over the set
    (members sorted from the nearest to the farthest) give one logit per proxy and member;
    a softmax over the members makes every proxy a convex combination of its own set.
    Neighbours and non-neighbours are given as two calls, so nothing leaks between them.
    23 552 parameters at ``dim`` 512, as in the paper (about 23.6 K); widths, the residual
    around the attention and the absence of biases are our reading.

    Args:
        dim: D of the features.
        max_proxies: the most proxies that one set can get.
        width: channels of the attention.
        hidden: channels between the convolutions.
        kernel_size: 3 looks at members of similar rank; 1 makes pooling order-free.
        generator: source of the initial weights; None takes torch's global one.

    Raises:
        TypeError, ValueError: for sizes below 1 or an even ``kernel_size``.
    """

    def __init__(
        self,
        dim: int,
        max_proxies: int = 32,
        width: int = 32,
        hidden: int = 16,
        kernel_size: int = 3,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.dim = check_count("dim", dim, 1)
        self.max_proxies = check_count("max_proxies", max_proxies, 1)
        check_count("width", width, 1)
        check_count("hidden", hidden, 1)
        if check_count("kernel_size", kernel_size, 1) % 2 == 0:
            raise ValueError(f"kernel_size={kernel_size} must be odd, so that it has a centre")
        pad = kernel_size // 2
        # made on meta: the modules' own initialisation would draw from the global generator
        self.embed = nn.Linear(dim, width, bias=False, device="meta")
        self.qkv = nn.Linear(width, 3 * width, bias=False, device="meta")
        self.out = nn.Linear(width, width, bias=False, device="meta")
        self.conv1 = nn.Conv1d(width, hidden, kernel_size, padding=pad, bias=False, device="meta")
        self.conv2 = nn.Conv1d(
            hidden, max_proxies, kernel_size, padding=pad, bias=False, device="meta"
        )
        self.to_empty(device="cpu")
        for weight in self.parameters():
            nn.init.kaiming_uniform_(weight, a=math.sqrt(5), generator=generator)

    def encode(self, rows: Tensor) -> Tensor:
        """Tokens of a batch, made once and shared by all its sets.

        Args:
            rows: [B, D], unit rows; used without gradient.

        Returns:
            [B, 4, width]: the embedding and its query, key and value.
        """
        # unit rows have entries of about 1/sqrt(D); the layers are initialised for entries of 1
        tokens = self.embed(rows.detach().to(self.embed.weight.dtype) * math.sqrt(self.dim))
        return torch.stack((tokens, *self.qkv(tokens).chunk(3, dim=-1)), dim=1)

    def pool(self, tokens: Tensor, members: Tensor, count: int) -> Tensor:
        """Pooling weights of ``count`` proxies for each of C sets.

        Args:
            tokens: [B, 4, width] from :meth:`encode`.
            members: [C, S] int64 rows of the batch that form each set, nearest first.
            count: proxies a set, at most ``max_proxies``.

        Returns:
            [C, count, S], not negative, each row summing to 1.
        """
        token, query, key, value = tokens[members].unbind(dim=2)
        related = F.scaled_dot_product_attention(query, key, value)
        mixed = (token + self.out(related)).transpose(1, 2)
        logits: Tensor = self.conv2(F.gelu(self.conv1(mixed)))[:, :count]
        return logits.softmax(dim=-1)


def spread_hinge(proxies: Tensor) -> Tensor:
    """How far the proxies of each set are from being spread out (VICReg's variance term).

    The mean over dimensions of max(0, gamma - std), where std runs over the proxies of one
    set (unbiased) and gamma = 1/sqrt(D) is the deviation of unit rows spread evenly.

    Args:
        proxies: [C, P, D], unit rows.

    Returns:
        [C]; zeros where P < 2, since one proxy has no spread.
    """
    if proxies.shape[1] < 2:
        return proxies.new_zeros(len(proxies))
    gamma = 1 / math.sqrt(proxies.shape[2])
    # the epsilon keeps the root's gradient finite where all proxies agree
    centred = proxies - proxies.mean(dim=1, keepdim=True)
    variance = centred.square().sum(dim=1) / (proxies.shape[1] - 1)
    deviation = (variance + 1e-4 * gamma**2).sqrt()
    return F.relu(gamma - deviation).mean(dim=-1)
