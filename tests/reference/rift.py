"""RIFT from its definitions: covariances by loops, minima over rotations by search."""

from __future__ import annotations

import torch
from torch import Tensor


def centred(rows: Tensor) -> Tensor:
    """Rows less their mean."""
    mean = sum((row for row in rows), torch.zeros_like(rows[0])) / len(rows)
    return torch.stack([row - mean for row in rows])


def second_moment(rows: Tensor) -> Tensor:
    """Mean of outer products of the rows, [D, D]."""
    total = torch.zeros(rows.shape[1], rows.shape[1], dtype=torch.float64)
    for row in rows:
        total = total + torch.outer(row, row)
    return total / len(rows)


def covariance(rows: Tensor) -> Tensor:
    """Second moment of the centred rows, [D, D]."""
    return second_moment(centred(rows))


def squared(matrix: Tensor) -> Tensor:
    """Squared Frobenius norm."""
    return sum((x**2 for x in matrix.flatten()), torch.zeros((), dtype=torch.float64))


def identity(student: Tensor, teacher: Tensor) -> Tensor:
    """|C - C0|^2 / |C0|^2."""
    c, c0 = covariance(student), covariance(teacher)
    return squared(c - c0) / squared(c0)


def uncentred_identity(student: Tensor, teacher: Tensor) -> Tensor:
    """|M - M0|^2 / |M0|^2 of the second moments."""
    m, m0 = second_moment(student), second_moment(teacher)
    return squared(m - m0) / squared(m0)


def cayley(lower: Tensor) -> Tensor:
    """(1 - A/2)^-1 (1 + A/2) for A_ij = lower_ij and A_ji = -lower_ij, i > j."""
    skew = torch.zeros_like(lower)
    for i in range(len(lower)):
        for j in range(i):
            skew[i, j] = lower[i, j]
            skew[j, i] = -lower[i, j]
    one = torch.eye(len(lower), dtype=torch.float64)
    return torch.linalg.inv(one - skew / 2) @ (one + skew / 2)


def turned_covariance(student: Tensor, teacher: Tensor, q: Tensor) -> Tensor:
    """|C - Q C0 Q^T|^2 / |C0|^2 for one Q."""
    c, c0 = covariance(student), covariance(teacher)
    return squared(c - q @ c0 @ q.T) / squared(c0)


def aligning(student: Tensor, teacher: Tensor) -> Tensor:
    """The Q that carries the eigenvectors of C0 onto those of C, in order."""
    own = torch.linalg.eigh(covariance(student)).eigenvectors
    other = torch.linalg.eigh(covariance(teacher)).eigenvectors
    return own @ other.T


def turned_rows(student: Tensor, teacher: Tensor, q: Tensor) -> Tensor:
    """|X - X0 Q|^2 / |X0|^2 for one Q."""
    x, x0 = centred(student), centred(teacher)
    return squared(x - x0 @ q) / squared(x0)


def procrustes(student: Tensor, teacher: Tensor) -> Tensor:
    """(|X|^2 + |X0|^2 - 2 |X0^T X|_*) / |X0|^2, the minimum of the above."""
    x, x0 = centred(student), centred(teacher)
    nuclear = torch.linalg.svdvals(x0.T @ x).sum()
    return (squared(x) + squared(x0) - 2 * nuclear) / squared(x0)


def mean_term(student: Tensor, teacher: Tensor) -> Tensor:
    """|mean - mean0|^2 / tr(C0)."""
    shift = sum(student) / len(student) - sum(teacher) / len(teacher)
    return squared(shift) / covariance(teacher).trace()


def random_rotation(dim: int, source: torch.Generator) -> Tensor:
    """A random orthogonal matrix."""
    return torch.linalg.qr(torch.randn(dim, dim, generator=source, dtype=torch.float64))[0]
