"""Lipsum-FT, one image and one text at a time."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.reference.fda import cosine


def lipsum(student: Tensor, teacher: Tensor, texts: Tensor, scale: float) -> Tensor:
    """The loss of a batch."""
    total = torch.zeros((), dtype=torch.float64)
    for own, other in zip(student, teacher, strict=True):
        for text in texts:
            change = scale * cosine(own, text) - scale * cosine(other, text)
            total = total + change**2 / (2 * len(texts)) / len(student)
    return total
