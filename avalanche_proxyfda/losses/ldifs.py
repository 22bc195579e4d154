"""LDIFS: the squared distance of normalised feature maps at several depths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from avalanche_proxyfda._tensors import full_precision, unit_rows, without_autocast

NormAxis = Literal["auto", "token", "channel"]


class LDIFSLoss(nn.Module):
    """L2 distance in feature space (Mukhoti et al., TMLR 2024, arXiv 2308.13320).

    The loss divides each map by its L2 norm along one axis. It averages the squared
    differences of student and teacher over positions and channels, over the maps, and over
    the batch. Where student and teacher agree, loss and gradient are zero.

    Args:
        normalize: the axis of the norm. ``"token"`` takes one norm for each channel, over the
            positions, as the official code does for ViTs. ``"channel"`` takes one norm for each
            position. ``"auto"`` takes ``"token"`` for tokens and ``"channel"`` for maps of
            convolutions. A feature [B, D] has one norm, whichever axis is named.

    Raises:
        ValueError: for another ``normalize``.

    Example:
        >>> import torch
        >>> from avalanche_proxyfda import LDIFSLoss
        >>> tokens, vectors = torch.ones(1, 4, 3), torch.tensor([[1.0, 0.0]])  # maps at two depths
        >>> loss = LDIFSLoss()
        >>> float(loss([2 * tokens, vectors], [tokens, vectors]))  # the norms do not count
        0.0
        >>> float(loss([tokens, vectors.flip(1)], [tokens, vectors]))  # the mean of 0 and 1
        0.5
    """

    def __init__(self, normalize: NormAxis = "auto") -> None:
        super().__init__()
        if normalize not in get_args(NormAxis):
            raise ValueError(
                f"normalize={normalize!r} is unknown; choose one of {get_args(NormAxis)}"
            )
        self.normalize: NormAxis = normalize

    def forward(self, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
        """Return the loss of one batch.

        Args:
            student: maps, each tokens [B, T, D], a map [B, C, H, W], or vectors [B, D]; they
                receive the gradient.
            teacher: maps of the same shapes; they receive none.

        Returns:
            A scalar, float32 (float64 for float64 maps).

        Raises:
            TypeError, ValueError: without a map, for maps of other kinds, or shapes that differ.
        """
        if not student or len(student) != len(teacher):
            raise ValueError(
                f"student has {len(student)} maps, teacher {len(teacher)}: both must hold the "
                "same places, at least one"
            )
        with without_autocast(student[0]):
            return torch.stack(
                [self._map_distance(s, t.detach()) for s, t in zip(student, teacher, strict=True)]
            ).mean()

    def size(self, maps: Sequence[Tensor]) -> Tensor:
        """Return the mean square of the normalised maps, the scale of the loss.

        A small drift by a share r of each norm, at a right angle, changes the loss by r² times
        this size.

        Args:
            maps: as the loss takes them.

        Returns:
            A scalar, float32 (float64 for float64 maps), at most 1, and 0 for an empty batch.

        Raises:
            TypeError: for maps of other kinds.
            ValueError: without a map.

        Example:
            >>> import torch
            >>> from avalanche_proxyfda import LDIFSLoss
            >>> float(LDIFSLoss().size([torch.ones(2, 4), torch.ones(2, 16)]))  # 1/4 and 1/16
            0.15625
        """
        if not maps:
            raise ValueError("there is no map, so no size: pass at least one")
        with without_autocast(maps[0]):
            squares = [self._unit(each).square() for each in maps]
            return torch.stack([s.mean() if s.numel() else s.sum() for s in squares]).mean()

    def _map_distance(self, student: Tensor, teacher: Tensor) -> Tensor:
        if student.shape != teacher.shape:
            raise ValueError(
                f"a map of the student has shape {tuple(student.shape)}, the teacher's "
                f"{tuple(teacher.shape)}: give both maps of the same place and batch"
            )
        if student.numel() == 0:
            return full_precision(student).sum()  # an empty batch
        return (self._unit(student) - self._unit(teacher)).square().mean()

    def _unit(self, value: Tensor) -> Tensor:
        """Return the map as [B, T, D] or [B, D, T], normalised along the last axis."""
        if not value.is_floating_point() or value.ndim not in (2, 3, 4):
            raise TypeError(
                f"a map is a {value.dtype} tensor of shape {tuple(value.shape)}; expected floats: "
                "tokens [B, T, D], a map [B, C, H, W], or vectors [B, D]"
            )
        value = full_precision(value)
        axis = self.normalize
        if axis == "auto":
            axis = "token" if value.ndim == 3 else "channel"
        if value.ndim == 2:  # a norm over the one position would keep nothing but signs
            return unit_rows(value)
        by_channel = value.transpose(1, 2) if value.ndim == 3 else value.flatten(2)  # [B, D, T]
        return unit_rows(by_channel if axis == "token" else by_channel.transpose(1, 2))
