"""Proxy-FDA by the letter: one anchor, one set, one proxy at a time, in float64."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from tests.reference.fda import cosine, ranked, term, weight


def pooling_weights(layers: Mapping[str, Tensor], rows: list[Tensor], count: int) -> Tensor:
    """[count, S] pooling weights of one set, from the generator's raw weight tensors."""
    dim = len(rows[0])
    tokens = [layers["embed.weight"] @ (r * math.sqrt(dim)) for r in rows]
    width = len(tokens[0])
    projected = [layers["qkv.weight"] @ t for t in tokens]
    query = [p[:width] for p in projected]
    key = [p[width : 2 * width] for p in projected]
    value = [p[2 * width :] for p in projected]
    mixed = []
    for m in range(len(rows)):
        scores = torch.stack([query[m] @ key[n] / math.sqrt(width) for n in range(len(rows))])
        share = torch.exp(scores) / torch.exp(scores).sum()
        heard = sum(share[n] * value[n] for n in range(len(rows)))
        mixed.append(tokens[m] + layers["out.weight"] @ heard)
    hidden = [torch.nn.functional.gelu(h) for h in _convolve(layers["conv1.weight"], mixed)]
    logits = torch.stack(_convolve(layers["conv2.weight"], hidden), dim=1)[:count]
    return torch.exp(logits) / torch.exp(logits).sum(dim=1, keepdim=True)


def _convolve(kernel: Tensor, sequence: list[Tensor]) -> list[Tensor]:
    """Centred 1-D convolution of a list of vectors, zeros beyond its ends."""
    reach = kernel.shape[2] // 2
    out = []
    for s in range(len(sequence)):
        total = torch.zeros(kernel.shape[0], dtype=torch.float64)
        for offset in range(-reach, reach + 1):
            if 0 <= s + offset < len(sequence):
                total = total + kernel[:, :, offset + reach] @ sequence[s + offset]
        out.append(total)
    return out


def _count(members: int, ratio: float) -> int:
    if members == 0 or ratio == 0:
        return 0
    return max(1, math.floor(ratio * members + 0.5))


def proxy_fda(
    student: Tensor,
    teacher: Tensor,
    layers: Mapping[str, Tensor],
    k: int,
    ratio: float,
    alpha: float,
    inverse_tau: Tensor,
    bias: Tensor,
    mode: str,
) -> tuple[Tensor, Tensor]:
    """(alignment, generator) of a batch without zero rows."""
    b, dim = student.shape
    zero = torch.zeros((), dtype=torch.float64)
    rows = [r / math.sqrt(float((r**2).sum())) for r in student.detach()]
    live = [r / r.norm() for r in student]
    alignment, generator = zero, zero
    for i in range(b):
        order = ranked(teacher, i)
        near, far = order[: min(k, b - 1)], order[min(k, b - 1) :]
        terms = []
        for positive, own, rest in ((True, near, far), (False, far, near)):
            for j in own:
                w = weight(cosine(teacher[i], teacher[j]), positive, mode)
                terms.append(term(w, cosine(student[i], student[j]), inverse_tau, bias))
            count = _count(len(own), ratio)
            if count == 0:
                continue
            pooling = pooling_weights(layers, [rows[j] for j in own], count)
            made = []
            for p in range(count):
                share = pooling[p].detach()
                proxy = sum(share[m] * live[j] for m, j in enumerate(own))
                near_by = sum(share[m] * cosine(teacher[i], teacher[j]) for m, j in enumerate(own))
                w = weight(near_by, positive, mode)
                terms.append(term(w, cosine(student[i], proxy), inverse_tau, bias))
                pooled = sum(pooling[p, m] * rows[j] for m, j in enumerate(own))
                made.append(pooled / pooled.norm())
            contrast = zero
            for proxy in made:
                for j in own:
                    contrast = contrast + _label(1.0, proxy @ rows[j], inverse_tau, bias)
                for j in rest:
                    contrast = contrast + _label(-1.0, proxy @ rows[j], inverse_tau, bias)
            generator = generator + contrast / (count * (b - 1))
            if count > 1:
                generator = generator + alpha * _hinge(made, dim)
        alignment = alignment + sum(terms) / len(terms)
    return alignment / b, generator / b


def _label(sign: float, cos: Tensor, inverse_tau: Tensor, bias: Tensor) -> Tensor:
    return torch.log(1 + torch.exp(-sign * (cos * inverse_tau.detach() + bias.detach())))


def _hinge(proxies: list[Tensor], dim: int) -> Tensor:
    gamma = 1 / math.sqrt(dim)
    total = torch.zeros((), dtype=torch.float64)
    for d in range(dim):
        values = [p[d] for p in proxies]
        mean = sum(values) / len(values)
        variance = sum((v - mean) ** 2 for v in values) / (len(values) - 1)
        deviation = torch.sqrt(variance + 1e-4 * gamma**2)
        if deviation < gamma:
            total = total + (gamma - deviation)
    return total / dim
