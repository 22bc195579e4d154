"""Proxies: convex combinations of the features of a set."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avalanche_proxyfda._checks import check_count

_WIDTH = 32  # channels of the attention
_HIDDEN = 16  # channels between the convolutions


def proxy_count(members: int, ratio: float, most: int) -> int:
    """Return the number of proxies of a set: ``ratio`` x ``members``, between 1 and ``most``.

    The product is rounded. An empty set and ``ratio`` 0 give 0.
    """
    if members == 0 or ratio == 0:
        return 0
    return min(max(1, math.floor(ratio * members + 0.5)), most)


class ProxyGenerator(nn.Module):
    """Learns the pooling weights that turn a set of features into proxies of that set.

    An attention layer relates the members of a set. Two convolutions over the members, sorted
    from the nearest to the farthest, give one logit for each proxy and member. A softmax over
    the members makes every proxy a convex combination of its own set. Neighbours and
    non-neighbours are pooled in two calls, so neither set sees the other.

    At ``dim`` 512 the generator has 23 552 parameters, as in the paper (about 23.6 K). The
    widths, the residual around the attention and the absence of biases are our reading.

    Args:
        dim: D of the features.
        max_proxies: upper limit of the proxies of a set.
        kernel_size: 3 mixes members of similar rank; 1 makes pooling independent of the order.
        generator: source of the initial weights; None takes torch's global generator.

    Raises:
        TypeError, ValueError: for sizes below 1 or an even ``kernel_size``.
    """

    def __init__(
        self,
        dim: int,
        max_proxies: int = 32,
        kernel_size: int = 3,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.dim = check_count("dim", dim, 1)
        self.max_proxies = check_count("max_proxies", max_proxies, 1)
        if check_count("kernel_size", kernel_size, 1) % 2 == 0:
            raise ValueError(f"kernel_size={kernel_size} must be odd, so that it has a centre")
        pad = kernel_size // 2
        # on meta, because the initialisation of torch's modules draws from the global generator
        self.embed = nn.Linear(dim, _WIDTH, bias=False, device="meta")
        self.qkv = nn.Linear(_WIDTH, 3 * _WIDTH, bias=False, device="meta")
        self.out = nn.Linear(_WIDTH, _WIDTH, bias=False, device="meta")
        self.conv1 = nn.Conv1d(_WIDTH, _HIDDEN, kernel_size, padding=pad, bias=False, device="meta")
        self.conv2 = nn.Conv1d(
            _HIDDEN, max_proxies, kernel_size, padding=pad, bias=False, device="meta"
        )
        self.to_empty(device="cpu")
        for weight in self.parameters():
            nn.init.kaiming_uniform_(weight, a=math.sqrt(5), generator=generator)

    def encode(self, rows: Tensor) -> Tensor:
        """Return the tokens of a batch, which all its sets share.

        Args:
            rows: [B, D], unit rows; they receive no gradient.

        Returns:
            [B, 4, 32]: the embedding of each row, its query, key and value.
        """
        # entries of unit rows are about 1/sqrt(D); the layers are initialised for entries of 1
        tokens = self.embed(rows.detach().to(self.embed.weight.dtype) * math.sqrt(self.dim))
        return torch.stack((tokens, *self.qkv(tokens).chunk(3, dim=-1)), dim=1)

    def pool(self, tokens: Tensor, members: Tensor, count: int) -> Tensor:
        """Return the pooling weights of ``count`` proxies for each of C sets.

        Args:
            tokens: [B, 4, 32] from :meth:`encode`.
            members: [C, S] int64, the rows of the batch that form each set, nearest first.
            count: proxies of a set, at most ``max_proxies``.

        Returns:
            [C, count, S], not negative; each row sums to 1.
        """
        token, query, key, value = tokens[members].unbind(dim=2)
        attended = F.scaled_dot_product_attention(query, key, value)
        mixed = (token + self.out(attended)).transpose(1, 2)
        logits: Tensor = self.conv2(F.gelu(self.conv1(mixed)))[:, :count]
        return logits.softmax(dim=-1)


def spread_hinge(proxies: Tensor) -> Tensor:
    """Return VICReg's variance term of each set, which is large where its proxies are close.

    The term is the mean over dimensions of max(0, gamma - std). The std is the unbiased
    deviation over the proxies of one set. Evenly spread unit rows have the deviation
    gamma = 1/sqrt(D).

    Args:
        proxies: [C, P, D], unit rows.

    Returns:
        [C]; zeros if P < 2, because one proxy has no deviation.
    """
    if proxies.shape[1] < 2:
        return proxies.new_zeros(len(proxies))
    gamma = 1 / math.sqrt(proxies.shape[2])
    # the epsilon keeps the gradient of the root finite where all proxies agree
    centred = proxies - proxies.mean(dim=1, keepdim=True)
    variance = centred.square().sum(dim=1) / (proxies.shape[1] - 1)
    deviation = (variance + 1e-4 * gamma**2).sqrt()
    return F.relu(gamma - deviation).mean(dim=-1)
