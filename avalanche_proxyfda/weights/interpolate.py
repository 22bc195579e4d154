"""WiSE-FT: interpolates between two sets of weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from avalanche_proxyfda._checks import check_number_on_weights

BufferChoice = Literal["interpolate", "tuned", "anchor"]


def check_alpha(alpha: float) -> float:
    """Return ``alpha``; raise TypeError or ValueError unless it lies in [0, 1]."""
    if check_number_on_weights("alpha", alpha) > 1:
        raise ValueError(f"alpha={alpha} must lie in [0, 1]: 0 is the anchor, 1 the tuned model")
    return float(alpha)


@torch.no_grad()
def interpolate(
    anchor: Mapping[str, Tensor], tuned: Mapping[str, Tensor], alpha: float
) -> dict[str, Tensor]:
    """Return (1 - alpha) anchor + alpha tuned (Wortsman et al., CVPR 2022, Eq. 1).

    The result equals ``anchor`` to the bit at alpha = 0, and ``tuned`` at alpha = 1. Integer
    tensors (BatchNorm's count of batches) are ``tuned``'s, except at alpha = 0. The function
    interpolates running means and variances like weights, as the authors' code does. They are
    then the statistics of neither model, so consider estimating them again.

    Args:
        anchor: state dict at alpha = 0.
        tuned: state dict at alpha = 1, with the names and shapes of ``anchor``.
        alpha: position between the two, in [0, 1].

    Returns:
        A new state dict, with tensors of the dtypes and on the devices of ``tuned``.

    Raises:
        TypeError: when ``alpha`` is no number.
        ValueError: when ``alpha`` is outside [0, 1], or names or shapes of the state dicts
            differ; the message lists them.

    Example:
        >>> import torch
        >>> from avalanche_proxyfda import interpolate
        >>> interpolate({"w": torch.zeros(2)}, {"w": torch.ones(2)}, 0.25)
        {'w': tensor([0.2500, 0.2500])}
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
    state = {}
    for name, end in tuned.items():
        start = anchor[name].to(end.device, end.dtype)
        if alpha in (0, 1) or not (end.is_floating_point() or end.is_complex()):
            state[name] = (start if alpha == 0 else end).clone()
        else:  # for infinite ends (masks), torch.lerp gives NaN
            between = torch.lerp(start, end, alpha)
            infinite = start.isinf() | end.isinf()
            plain = (1 - alpha) * start + alpha * end
            state[name] = torch.where(start == end, end, torch.where(infinite, plain, between))
    return state


def interpolation_path(
    anchor: Mapping[str, Tensor], tuned: Mapping[str, Tensor], alphas: Sequence[float]
) -> Iterator[tuple[float, dict[str, Tensor]]]:
    """Yield (alpha, state dict) for each of ``alphas``; memory holds one state dict at a time.

    Args:
        anchor: see :func:`interpolate`.
        tuned: see :func:`interpolate`.
        alphas: positions in [0, 1]; the call checks all of them.

    Raises:
        TypeError, ValueError: see :func:`interpolate`.

    Example:
        >>> import torch
        >>> from avalanche_proxyfda import interpolation_path
        >>> path = interpolation_path({"w": torch.zeros(1)}, {"w": torch.ones(1)}, (0, 0.5, 1))
        >>> [(alpha, float(state["w"])) for alpha, state in path]
        [(0.0, 0.0), (0.5, 0.5), (1.0, 1.0)]
    """
    checked = [check_alpha(alpha) for alpha in alphas]
    return ((alpha, interpolate(anchor, tuned, alpha)) for alpha in checked)
