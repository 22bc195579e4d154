"""WiSE-FT: a point between two sets of weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from avalanche_proxyfda.losses.base import check_amount

BufferChoice = Literal["interpolate", "tuned", "anchor"]


def check_alpha(alpha: float) -> float:
    """Return ``alpha``; raise TypeError or ValueError unless it lies in [0, 1]."""
    if check_amount("alpha", alpha) > 1:
        raise ValueError(f"alpha={alpha} must lie in [0, 1]: 0 is the anchor, 1 the tuned model")
    return float(alpha)


@torch.no_grad()
def interpolate(
    anchor: Mapping[str, Tensor], tuned: Mapping[str, Tensor], alpha: float
) -> dict[str, Tensor]:
    """(1 - alpha) anchor + alpha tuned (Wortsman et al., CVPR 2022, Eq. 1).

    Exactly ``anchor`` at 0 and exactly ``tuned`` at 1. Integer tensors (BatchNorm's count of
    batches) have no point between: they are the tuned ones, but for alpha = 0. Running
    means and variances are interpolated like weights, as in the authors' code; they are
    statistics of neither model then, so consider to estimate them again.

    Args:
        anchor: a state dict.
        tuned: a state dict of the same names and shapes.
        alpha: in [0, 1].

    Returns:
        A new state dict, its tensors on the devices of ``tuned``.

    Raises:
        TypeError, ValueError: for a bad ``alpha``, or state dicts that do not fit; says
            which names or shapes.
    """
    check_alpha(alpha)
    alone = sorted(set(anchor) ^ set(tuned))
    if alone:
        raise ValueError(f"only one of the state dicts has: {', '.join(alone[:5])}")
    wrong = [
        f"{name}: {tuple(anchor[name].shape)} and {tuple(tuned[name].shape)}"
        for name in tuned
        if anchor[name].shape != tuned[name].shape
    ]
    if wrong:
        raise ValueError(f"shapes of anchor and tuned differ: {'; '.join(wrong[:5])}")
    made = {}
    for name, end in tuned.items():
        start = anchor[name].to(end.device, end.dtype)
        if alpha in (0, 1) or not (end.is_floating_point() or end.is_complex()):
            made[name] = (start if alpha == 0 else end).clone()
        else:  # where an end is infinite (masks), the difference of both would be NaN
            between = torch.lerp(start, end, alpha)
            infinite = start.isinf() | end.isinf()
            plain = (1 - alpha) * start + alpha * end
            made[name] = torch.where(start == end, end, torch.where(infinite, plain, between))
    return made


def interpolation_path(
    anchor: Mapping[str, Tensor], tuned: Mapping[str, Tensor], alphas: Sequence[float]
) -> Iterator[tuple[float, dict[str, Tensor]]]:
    """(alpha, state dict) for each of ``alphas``, made one at a time.

    ``for alpha, state in interpolation_path(before, after, (0, 0.25, 0.5, 0.75, 1)): ...``

    Raises:
        TypeError, ValueError: as :func:`interpolate`, for all of ``alphas`` before the first.
    """
    checked = [check_alpha(alpha) for alpha in alphas]
    return ((alpha, interpolate(anchor, tuned, alpha)) for alpha in checked)
