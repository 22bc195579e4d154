"""SoftFDA, one pair of a row and a column at a time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from tests.reference.fda import cosine, ranked, weight
from tests.reference.proxy_fda import _count, _mixing, attended, softmax_weights

ZERO = torch.zeros((), dtype=torch.float64)
Pair = tuple[Tensor, float, float | None]
"""Cosines of a row with a column, student's and teacher's, and the weight if it is given."""


def pairs_of(
    i: int, student: Tensor, teacher: Tensor, columns: Sequence[Tensor], proxies: Sequence[Pair]
) -> list[Pair]:
    """The pairs of row i with the other rows, the further columns, and proxies."""
    own = [row for j, row in enumerate(student) if j != i]
    known = [row for j, row in enumerate(teacher) if j != i]
    plain: list[Pair] = [
        (cosine(student[i], s), float(cosine(teacher[i], t)), None)
        for s, t in zip([*own, *columns], [*known, *columns], strict=True)
    ]
    return plain + list(proxies)


def proxy_pairs(
    i: int,
    student: Tensor,
    teacher: Tensor,
    layers: Mapping[str, Tensor],
    k: int,
    ratio: float,
    mode: str = "similarity",
) -> list[Pair]:
    """The pairs of row i with its proxies; no row may be zero."""
    rows = [r / r.norm() for r in student.detach()]
    order, made = ranked(teacher, i), list[Pair]()
    for positive, members in ((True, order[:k]), (False, order[k:])):
        count = _count(len(members), ratio)
        if count == 0:
            continue
        averages = attended(layers, [rows[j] for j in members])
        softmax = softmax_weights(layers, "near" if positive else "far", averages, count).detach()
        mixing = _mixing(layers, [rows[j] for j in members])
        for p in range(count):
            share = softmax[p] @ mixing
            own, known = (
                sum((share[m] * x[j] / x[j].norm() for m, j in enumerate(members)), 0 * x[0])
                for x in (student, teacher)
            )
            pooled = sum(
                (softmax[p, m] * cosine(teacher[i], teacher[j]) for m, j in enumerate(members)),
                ZERO,
            )
            w = float(weight(pooled, positive, mode))
            made.append((cosine(student[i], own), float(cosine(teacher[i], known)), w))
    return made


def kl_of(pairs: Sequence[Pair], scale: float) -> Tensor:
    """KL(teacher || student) of one row."""
    own = [(scale * c).exp() for c, _, _ in pairs]
    known = [math.exp(scale * t) for _, t, _ in pairs]
    total = ZERO
    for q, p in zip(own, known, strict=True):
        share = p / sum(known)
        total = total + share * (math.log(share) - (q / sum(own)).log())
    return total


def bregman_of(
    pairs: Sequence[Pair], others: int, k: int, scale: float, bias: float, mode: str
) -> Tensor:
    """Mean of FDA's loss minus its expansion at the teacher, over the columns of one row."""
    known = [t for _, t, _ in pairs]
    near = set(sorted(range(others), key=lambda j: -known[j])[:k])
    least = min(known[j] for j in near)
    total = ZERO
    for j, (c, t, given) in enumerate(pairs):
        positive = j in near or (j >= others and t >= least)
        w = given
        if w is None:
            w = float(weight(torch.tensor(t, dtype=torch.float64), positive, mode))
        value = math.log1p(math.exp(-w * (scale * t + bias)))
        slope = -w * scale / (1 + math.exp(w * (scale * t + bias)))
        entry = (1 + (-w * (scale * c + bias)).exp()).log() - value - slope * (c - t)
        total = total + entry / len(pairs)
    return total


def soft_kl(
    student: Tensor, teacher: Tensor, scale: float = 10.0, columns: Sequence[Tensor] = ()
) -> Tensor:
    """Mean over rows of KL(teacher || student), without proxies."""
    rows = range(len(student))
    return sum(
        (kl_of(pairs_of(i, student, teacher, columns, ()), scale) for i in rows), ZERO
    ) / len(student)


def soft_bregman(
    student: Tensor,
    teacher: Tensor,
    k: int,
    scale: float,
    bias: float,
    mode: str = "similarity",
    columns: Sequence[Tensor] = (),
) -> Tensor:
    """Mean over rows of the Bregman form, without proxies."""
    count, total = len(student), ZERO
    for i in range(count):
        pairs = pairs_of(i, student, teacher, columns, ())
        total = total + bregman_of(pairs, count - 1, k, scale, bias, mode) / count
    return total
