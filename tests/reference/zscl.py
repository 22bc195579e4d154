"""ZSCL, one image and one text at a time."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.reference.fda import cosine

ZERO = torch.zeros((), dtype=torch.float64)


def softened(line: list[Tensor], temperature: float) -> list[Tensor]:
    """Softmax of a list of logits over the temperature."""
    largest = max(float(z.detach()) for z in line)
    powers = [torch.exp((z - largest) / temperature) for z in line]
    total = sum(powers, ZERO)
    return [p / total for p in powers]


def divergence(own: list[Tensor], other: list[Tensor], temperature: float) -> Tensor:
    """KL of the teacher's distribution from the student's."""
    p, q = softened(own, temperature), softened(other, temperature)
    return sum((b * torch.log(b / a) for a, b in zip(p, q, strict=True)), ZERO)


def zscl(
    student: Tensor,
    teacher: Tensor,
    texts: Tensor,
    student_texts: Tensor,
    scale: float,
    temperature: float,
) -> Tensor:
    """The loss of a batch of images and texts."""
    images, words = range(len(student)), range(len(texts))
    own = [[scale * cosine(student[i], student_texts[j]) for j in words] for i in images]
    other = [[scale * cosine(teacher[i], texts[j]) for j in words] for i in images]
    rows = sum((divergence(own[i], other[i], temperature) for i in images), ZERO) / len(images)
    columns = ZERO
    for j in words:
        column, target = [own[i][j] for i in images], [other[i][j] for i in images]
        columns = columns + divergence(column, target, temperature) / len(words)
    return temperature**2 * (rows + columns)
