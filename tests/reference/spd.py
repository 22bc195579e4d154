"""AdamSPD, one number at a time."""

from __future__ import annotations

import math


def adam(
    theta: list[float], gradients: list[list[float]], lr: float, betas: tuple[float, float]
) -> list[float]:
    """The step of Adam after the gradients so far, the newest last (eps = 1e-8)."""
    count, stepped = len(gradients), []
    for k, value in enumerate(theta):
        first = second = 0.0
        for gradient in gradients:
            first = betas[0] * first + (1 - betas[0]) * gradient[k]
            second = betas[1] * second + (1 - betas[1]) * gradient[k] ** 2
        size = math.sqrt(second / (1 - betas[1] ** count)) + 1e-8
        stepped.append(value - lr * first / (1 - betas[0] ** count) / size)
    return stepped


def length(values: list[float]) -> float:
    """Euclidean norm."""
    return math.sqrt(sum(v * v for v in values))


def decayed(
    theta: list[float],
    stepped: list[float],
    anchor: list[float],
    gradient: list[float],
    weight: float,
) -> tuple[list[float], float]:
    """The weights after selective projection decay of one tensor, and the ratio."""
    condition = -sum(g * (t - a) for g, t, a in zip(gradient, theta, anchor, strict=True))
    if not condition < 0:
        return stepped, 0.0
    before = length([t - a for t, a in zip(theta, anchor, strict=True)])
    after = length([s - a for s, a in zip(stepped, anchor, strict=True)])
    ratio = min(max((after - before) / after, 0.0), 1.0)
    return [s - weight * ratio * (s - a) for s, a in zip(stepped, anchor, strict=True)], ratio
