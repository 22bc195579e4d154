"""Proxy-FDA by the letter: one anchor, one set, one proxy at a time, in float64."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from tests.reference.fda import cosine, ranked, term, weight


def attended(layers: Mapping[str, Tensor], rows: list[Tensor]) -> list[Tensor]:
    """X' = A X of one set: each row's softmax average over the rows of the set."""
    if "query.weight" not in layers:
        return rows
    size = math.sqrt(len(rows[0]))
    query = [layers["query.weight"] @ (r * size) for r in rows]
    key = [layers["key.weight"] @ (r * size) for r in rows]
    averages = []
    for m in range(len(rows)):
        scores = torch.stack([query[m] @ k / math.sqrt(len(k)) for k in key])
        share = torch.exp(scores) / torch.exp(scores).sum()
        averages.append(sum(share[n] * rows[n] for n in range(len(rows))))
    return averages


def softmax_weights(
    layers: Mapping[str, Tensor], head: str, averages: list[Tensor], count: int
) -> Tensor:
    """S of one set, [count, S]: two convolutions over the members, and a softmax."""
    size = math.sqrt(len(averages[0]))
    hidden = [layers[f"{head}.inner.weight"] @ (x * size) for x in averages]
    hidden = [torch.nn.functional.gelu(h + layers[f"{head}.inner.bias"]) for h in hidden]
    logits = torch.stack(_convolve(layers[f"{head}.outer.weight"], hidden), dim=1)[:count]
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
            averages = attended(layers, [rows[j] for j in own])
            softmax = softmax_weights(layers, "near" if positive else "far", averages, count)
            # in the alignment, S A is a constant and the members carry the gradient
            mixing = _mixing(layers, [rows[j] for j in own])
            made = []
            for p in range(count):
                share = (softmax[p] @ mixing).detach()
                proxy = sum(share[m] * live[j] for m, j in enumerate(own))
                near_by = sum(
                    softmax[p, m].detach() * cosine(teacher[i], teacher[j])
                    for m, j in enumerate(own)
                )
                w = weight(near_by, positive, mode)
                terms.append(term(w, cosine(student[i], proxy), inverse_tau, bias))
                pooled = sum(softmax[p, m] * averages[m] for m in range(len(own)))
                made.append(pooled / pooled.norm())
            contrast = zero
            for proxy in made:
                for j in own:
                    contrast = contrast + _label(1.0, proxy @ rows[j], inverse_tau, bias)
                for j in rest:
                    contrast = contrast + _label(-1.0, proxy @ rows[j], inverse_tau, bias)
            generator = generator + contrast / (count * b)
            if count > 1:
                generator = generator + alpha * _hinge(made, dim)
        alignment = alignment + sum(terms) / len(terms)
    return alignment / b, generator / b


def _label(sign: float, cos: Tensor, inverse_tau: Tensor, bias: Tensor) -> Tensor:
    return torch.log(1 + torch.exp(-sign * (cos * inverse_tau.detach() + bias.detach())))


def _mixing(layers: Mapping[str, Tensor], rows: list[Tensor]) -> Tensor:
    """A of one set, [S, S]: row m holds the shares of the members in the average of member m."""
    if "query.weight" not in layers:
        return torch.eye(len(rows), dtype=torch.float64)
    size = math.sqrt(len(rows[0]))
    mixing = torch.zeros(len(rows), len(rows), dtype=torch.float64)
    for m, a in enumerate(rows):
        for n, b in enumerate(rows):
            q, k = layers["query.weight"] @ (a * size), layers["key.weight"] @ (b * size)
            mixing[m, n] = torch.exp(q @ k / math.sqrt(len(q))).detach()
    return mixing / mixing.sum(dim=1, keepdim=True)


def _hinge(proxies: list[Tensor], dim: int) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for d in range(dim):
        values = [p[d] for p in proxies]
        mean = sum(values) / len(values)
        variance = sum((v - mean) ** 2 for v in values) / (len(values) - 1)
        deviation = torch.sqrt(variance + 1e-4)
        if deviation < 1:
            total = total + (1 - deviation)
    return total / dim
