"""The fitted start of FDA's sigmoid: the scale and bias with the least loss on a graph."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

_STEPS = 100
_LARGEST_SCALE = 1e4
_LEAST_VALUE = 1e-6  # a lower loss means separable pairs, whose loss falls to 0 as a grows
_MOST_PAIRS = 2**20
_EQUAL = 1e-6  # a smaller range of cosines is rounding
_CONSTANT = 0.9999  # cosines above it say that a model ignores its images


def fit_sigmoid(cosine: Tensor, weight: Tensor) -> tuple[float, float] | None:
    """Return the scale a > 0 and the bias b that minimise mean softplus(-w (a cos + b)).

    The objective is convex in a and b. Newton's method with step halving starts at a = b = 0,
    in float64 on the CPU, so the result is deterministic. The fit is ours: the paper starts
    at SigLIP's values.

    Args:
        cosine: [N], cosines of pairs.
        weight: [N], signed weights of the pairs.

    Returns:
        (a, b), or None if there is no minimum with a > 0: all cosines are equal, values are not
        finite, a cosine separates the pairs of positive and negative weight, or the loss is
        least at a <= 0 (pairs with a small cosine attract, for example).

    Example:
        >>> import torch
        >>> from avalanche_proxyfda.losses.start import fit_sigmoid
        >>> cosine = torch.tensor([0.9, 0.5, 0.6, 0.1])
        >>> scale, bias = fit_sigmoid(cosine, torch.tensor([1.0, 1.0, -1.0, -1.0])) or (0, 0)
        >>> round(scale, 3), round(bias, 3)
        (6.366, -3.432)
    """
    c, w = (value.detach().to("cpu", torch.float64).flatten() for value in (cosine, weight))
    if len(c) == 0 or not bool(torch.isfinite(c).all() & torch.isfinite(w).all()):
        return None
    if float(c.max() - c.min()) < 1e-9:
        return None
    inputs = torch.stack((c, torch.ones_like(c)))  # [2, N]
    point = torch.zeros(2, dtype=torch.float64)

    def value_at(place: Tensor) -> float:
        return float(F.softplus(-w * (place @ inputs)).mean())

    value = value_at(point)
    for _ in range(_STEPS):
        probability = torch.sigmoid(-w * (point @ inputs))
        gradient = inputs @ (-w * probability) / len(c)
        curvature = w.square() * probability * (1 - probability) / len(c)
        hessian = (inputs * curvature) @ inputs.T
        determinant = float(hessian[0, 0] * hessian[1, 1] - hessian[0, 1].square())
        if not determinant > 1e-300:
            return None
        solution, singular = torch.linalg.solve_ex(hessian, gradient)
        if bool(singular) or not bool(solution.isfinite().all()):
            return None
        step = -solution
        decrease = float(gradient @ step)
        if -decrease <= 1e-20 * max(1.0, abs(value)):  # half the distance to the least value
            scale, bias = point.tolist()
            usable = 0 < scale <= _LARGEST_SCALE and math.isfinite(bias)
            return (scale, bias) if usable and value > _LEAST_VALUE else None
        size = 1.0
        while value_at(point + size * step) > value + 1e-4 * size * decrease and size > 1e-12:
            size /= 2
        if size <= 1e-12:  # rounding hides any further decrease
            size = 0.0
        point = point + size * step
        value = value_at(point)
        if float(point[0]) > _LARGEST_SCALE or value < _LEAST_VALUE:
            return None
        if size == 0.0:
            scale, bias = point.tolist()
            return (scale, bias) if scale > 0 and -decrease < 1e-9 else None
    return None


def fit_centred(cosine: Tensor, neighbor: Tensor, weight: Tensor) -> tuple[float, float] | None:
    """Return :func:`fit_sigmoid`, or None if the fit does not centre the sigmoid on the graph.

    The fit is centred if the cosine where the sigmoid is a half, -b / a, lies between the mean
    cosine of non-neighbours and that of neighbours.

    Args:
        cosine: [N], cosines of pairs.
        neighbor: [N] bool, True for pairs of neighbours.
        weight: [N], signed weights of the pairs.
    """
    fitted = fit_sigmoid(cosine, weight)
    if fitted is None:
        return None
    low, high = float(cosine[~neighbor].mean()), float(cosine[neighbor].mean())
    return fitted if low < -fitted[1] / fitted[0] < high else None


def some_queries(batch: int) -> slice:
    """Return evenly spaced queries of a batch, with at most about a million pairs."""
    return slice(None, None, max(1, batch * batch // _MOST_PAIRS))


def why_unfitted(cosine: Tensor) -> str:
    """Return a warning on a graph without a fit, with its cause and the remedy.

    Args:
        cosine: the teacher's cosines of different samples, any shape.
    """
    kept = "scale and bias stay as they are (this warning comes once)"
    if bool((cosine > _CONSTANT).all()):
        return (
            "the teacher's features are alike for all samples of a batch (every cosine is above "
            f"{_CONSTANT}), so no scale and bias centre the sigmoid, and the term keeps nothing; "
            f"{kept}. The teacher runs in evaluation mode, where batch norms whose statistics have "
            "not settled give constant features: freeze pre-trained statistics, or train without "
            "the plugin first"
        )
    if not bool(cosine.isfinite().all()):
        cause = "a cosine is not finite"
    elif float(cosine.max() - cosine.min()) < _EQUAL:
        cause = "all cosines are equal"
    else:
        cause = "the cosines separate neighbours from others, as in small batches"
    return (
        f"no scale and bias centre the sigmoid on a teacher's graph, since {cause}; {kept}, and "
        "training continues with them. Larger batches usually have a fit; start='siglip' skips it"
    )
