"""Features, rotations and toy losses for the tests of the losses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from tests.methods import ON_WEIGHTS, WITH_LOSS, arguments, method_of, toy_loss

LOSSES = (
    *(method for method in WITH_LOSS if method != "rift"),
    "rift-identity",  # RIFT, with both of its terms
    "rift-spectrum",
    "rift-procrustes",
    "rift-learned",
    "rift-uncentered",
    "fda-chunks",
    "proxy-fda-chunks",
    "proxy-fda-detached",
)
"""Every loss, and variants of losses."""
WITH_TEXTS = ("zscl", "lipsum-ft")
"""Losses that take text features too."""


def features(batch: int, dim: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Normal features [B, D]."""
    return torch.randn(batch, dim, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def rotation(dim: int, seed: int = 9) -> Tensor:
    """An orthogonal matrix [D, D]."""
    return torch.linalg.qr(features(dim, dim, seed))[0]


class OnList(nn.Module):
    """A loss on lists of tensors, which ``split`` cuts from two batches [B, D]."""

    def __init__(self, loss: nn.Module, split: Callable[[Tensor], list[Tensor]]) -> None:
        super().__init__()
        self.loss, self.split = loss, split

    def forward(self, student: Tensor, teacher: Tensor) -> Any:
        return self.loss(self.split(student), self.split(teacher))


class WithTexts(nn.Module):
    """A loss on images and texts, with a scale that suits toys, and fixed texts."""

    def __init__(self, loss: Any, dim: int) -> None:
        super().__init__()
        self.loss, loss.scale = loss, 4.0
        self.register_buffer("texts", features(5, dim, 77))

    def forward(self, student: Tensor, teacher: Tensor) -> Any:
        return self.loss(student, teacher, self.texts)


class OneTeacher(nn.Module):
    """A loss with two teachers, which are one."""

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, student: Tensor, teacher: Tensor) -> Any:
        return self.loss(student, teacher, teacher)


def weights_of(rows: Tensor) -> list[Tensor]:
    """Two tensors in the place of weights."""
    return [rows, rows[:3] * 2]


def loss_on_rows(
    name: str, dim: int, batch: int = 2, tokens: int = 1, side: int = 1, **options: Any
) -> nn.Module:
    """Return a toy loss that takes two batches [``batch``, ``dim``].

    Args:
        name: one of :data:`LOSSES`.
        dim: width of the features.
        batch: samples of a batch.
        tokens: number of tokens that the features are cut into, for a loss on maps.
        side: side of the map that the features are cut into, for a loss on maps.
        options: see :func:`tests.methods.toy_plugin`.
    """
    loss = toy_loss(name, dim, batch, **options)
    if method_of(name) in ON_WEIGHTS:
        return OnList(loss, weights_of)
    if name in WITH_TEXTS:
        return WithTexts(loss, dim)
    if name == "snd":
        return OneTeacher(loss)
    if "taps" in arguments(name):
        return OnList(
            loss,
            lambda rows: [
                rows.unflatten(1, (tokens, -1)),
                rows.unflatten(1, (-1, side, side)),
                rows,
            ],
        )
    return loss
