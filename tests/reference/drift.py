"""Distances between features from their definitions, in plain loops."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float64]


def cosine(a: Rows, b: Rows) -> float:
    na, nb = math.sqrt(float(a @ a)), math.sqrt(float(b @ b))
    return float(a @ b) / (na * nb) if na and nb else 0.0


def mean_l2(before: Rows, after: Rows) -> float:
    total = 0.0
    for a, b in zip(before, after, strict=True):
        gap = a / math.sqrt(float(a @ a)) - b / math.sqrt(float(b @ b))
        total += math.sqrt(float(gap @ gap))
    return total / len(before)


def hsic(first: Rows, second: Rows) -> float:
    """Trace of K H L H with linear kernels."""
    n = len(first)
    k = np.array([[float(a @ b) for b in first] for a in first])
    m = np.array([[float(a @ b) for b in second] for a in second])
    h = np.eye(n) - 1 / n
    return float(np.trace(k @ h @ m @ h))


def linear_cka(before: Rows, after: Rows) -> float:
    return hsic(before, after) / math.sqrt(hsic(before, before) * hsic(after, after))


def neighbor_overlap(before: Rows, after: Rows, k: int) -> float:
    kept = 0
    for i in range(len(before)):
        near = []
        for rows in (before, after):
            others = [(-cosine(rows[i], rows[j]), j) for j in range(len(rows)) if j != i]
            near.append({j for _, j in sorted(others)[:k]})
        kept += len(near[0] & near[1])
    return kept / (len(before) * k)


def knn_accuracy(
    train: Rows, labels: list[int], test: Rows, truth: list[int], k: int, temperature: float
) -> float:
    hits = 0
    for query, answer in zip(test, truth, strict=True):
        ranked = sorted(
            ((cosine(query, x), y) for x, y in zip(train, labels, strict=True)), key=lambda p: -p[0]
        )[:k]
        votes: dict[int, float] = {}
        for similarity, label in ranked:
            votes[label] = votes.get(label, 0.0) + math.exp(similarity / temperature)
        best = max(votes.values())
        hits += min(c for c, v in votes.items() if v >= best * (1 - 1e-12)) == answer
    return hits / len(test)


def gaussian_cost(first: Rows, second: Rows) -> float:
    """Squared Bures-Wasserstein distance of the two samples' Gaussians, by matrix roots."""
    means = first.mean(axis=0), second.mean(axis=0)
    a, b = (np.cov(x.T, bias=True) for x in (first, second))

    def root(matrix: Rows) -> Rows:
        values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
        return (vectors * np.sqrt(values.clip(min=0))) @ vectors.T

    middle = root(root(a) @ b @ root(a))
    gap = means[0] - means[1]
    return float(gap @ gap + np.trace(a) + np.trace(b) - 2 * np.trace(middle))


def transport(costs: Rows) -> float:
    """Cheapest transport between as many equal masses on both sides: an assignment."""
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(costs)
    return float(costs[rows, columns].mean())


def squared(a: Rows, b: Rows) -> float:
    return sum((float(x) - float(y)) ** 2 for x, y in zip(a, b, strict=True))


def k_means(rows: list[Rows], most: int) -> list[int]:
    """Cluster of each row of one class: greedy centres, then rounds until nothing changes."""
    values = sorted({tuple(row.tolist()) for row in rows})
    if len(values) <= most:
        return [values.index(tuple(row.tolist())) for row in rows]
    centres: list[Rows] = []
    for _ in range(most):
        totals = [
            sum(min(squared(row, c) for c in (*centres, np.array(candidate))) for row in rows)
            for candidate in values
        ]
        centres.append(np.array(values[totals.index(min(totals))]))
    nearest: list[int] = []
    while True:
        gaps = [[squared(row, c) for c in centres] for row in rows]
        now = [gap.index(min(gap)) for gap in gaps]
        if now == nearest:
            return now
        nearest = now
        for k in set(nearest):
            own = [row for row, n in zip(rows, nearest, strict=True) if n == k]
            centres[k] = sum(own[1:], own[0]) / len(own)


def clusters(rows: Rows, labels: list[int], most: int) -> list[tuple[int, int]]:
    """Class and cluster of each row."""
    found: dict[int, tuple[int, int]] = {}
    for label in set(labels):
        places = [i for i, own in enumerate(labels) if own == label]
        for i, k in zip(places, k_means([rows[i] for i in places], most), strict=True):
            found[i] = (label, k)
    return [found[i] for i in range(len(rows))]


def otdd(first: Rows, labels: list[int], second: Rows, others: list[int], most: int) -> float:
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (first, second)]
    own_of, other_of = clusters(unit[0], labels, most), clusters(unit[1], others, most)
    costs = np.zeros((len(first), len(second)))
    for i, a in enumerate(unit[0]):
        for j, b in enumerate(unit[1]):
            own = unit[0][[k == own_of[i] for k in own_of]]
            other = unit[1][[k == other_of[j] for k in other_of]]
            costs[i, j] = float((a - b) @ (a - b)) + gaussian_cost(own, other)
    return math.sqrt(max(transport(costs), 0.0))
