"""DiGraP's recursion for one tensor, with plain numbers."""

from __future__ import annotations

import math


class DiGraP:
    """State of one tensor; tensors are flat lists of floats."""

    def __init__(self, mu: float) -> None:
        self.mu = mu
        self.omega = 0.0
        self.m = self.v = 0.0
        self.t = 0  # steps of training
        self.c: list[float] | None = None

    def step(self, theta: list[float], anchor: list[float], g: list[float]) -> list[float]:
        """The gradient that the optimizer gets."""
        delta = [a - b for a, b in zip(theta, anchor, strict=True)]
        self.t += 1
        if self.c is not None:
            h = cosine(g, self.c)
            self.m = 0.9 * self.m + 0.1 * h
            self.v = 0.999 * self.v + 0.001 * h * h
            adam = (self.m / (1 - 0.9**self.t)) / (math.sqrt(self.v / (1 - 0.999**self.t)) + 1e-8)
            self.omega = min(1.0, max(0.0, self.omega - self.mu * adam))
        dot = sum(a * b for a, b in zip(g, delta, strict=True))
        length = sum(d * d for d in delta)
        self.c = [dot / (length + 1e-8) * d for d in delta]
        if dot < 0 and length > 0:
            return [a - self.omega * dot / length * d for a, d in zip(g, delta, strict=True)]
        return list(g)


def cosine(a: list[float], b: list[float]) -> float:
    """Cosine of two vectors; 0 when either is zero."""
    length_a, length_b = (math.sqrt(sum(x * x for x in v)) for v in (a, b))
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return dot / (max(length_a, 1e-8) * max(length_b, 1e-8))
