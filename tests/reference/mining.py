"""Hard class mining by the letter: one candidate class and one sample at a time."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.reference.fda import cosine, ranked, term, weight


def class_loss(
    student: Tensor,
    teacher: Tensor,
    chosen: list[int],
    candidate: int,
    inverse_tau: Tensor,
    bias: Tensor,
    mode: str,
) -> float:
    """Sum over the candidate's samples of Eq. 2 on chosen classes and candidate, with K = n.

    Both inputs are [C, n, D] in float64.
    """
    each = student.shape[1]
    members = [(candidate, place) for place in range(each)]
    members += [(c, place) for c in chosen for place in range(each)]
    rows = torch.stack([student[c, place] for c, place in members])
    teacher_rows = torch.stack([teacher[c, place] for c, place in members])
    total = torch.zeros((), dtype=torch.float64)
    for i in range(each):
        near = ranked(teacher_rows, i)[:each]
        for j in range(len(rows)):
            if j != i:
                w = weight(cosine(teacher_rows[i], teacher_rows[j]), j in near, mode)
                value = term(w, cosine(rows[i], rows[j]), inverse_tau, bias)
                total = total + value / (len(rows) - 1)
    return float(total)


def hardest(
    student: Tensor,
    teacher: Tensor,
    first: int,
    count: int,
    inverse_tau: Tensor,
    bias: Tensor,
    mode: str,
) -> list[int]:
    """The classes of a batch: again and again the one with the largest loss."""
    chosen = [first]
    while len(chosen) < count:
        losses = {
            c: class_loss(student, teacher, chosen, c, inverse_tau, bias, mode)
            for c in range(len(student))
            if c not in chosen
        }
        chosen.append(max(losses, key=lambda c: losses[c]))
    return chosen
