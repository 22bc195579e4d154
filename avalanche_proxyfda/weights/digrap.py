"""DiGraP: takes out of a gradient the part that points away from the anchor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from avalanche_proxyfda.losses.base import check_amount

_EPSILON = 1e-8
_BETAS = (0.9, 0.999)


def _wide(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Tensors in float32 at least: products and squares of half precision lose their digits."""
    return [t.float() if t.dtype in (torch.float16, torch.bfloat16) else t for t in tensors]


def dots(left: Sequence[Tensor], right: Sequence[Tensor]) -> Tensor:
    """Scalar product of each pair of tensors, [P].

    There is no sum of a list among ``torch._foreach``, but a norm: the sum of |x| less twice
    the sum of the negative parts is the sum.
    """
    products = torch._foreach_mul(_wide(left), _wide(right))
    total = torch.stack(list(torch._foreach_norm(products, 1)))
    torch._foreach_clamp_max_(products, 0.0)
    return total - 2 * torch.stack(list(torch._foreach_norm(products, 1)))


def norms(tensors: Sequence[Tensor]) -> Tensor:
    """Norm of each tensor, [P]."""
    return torch.stack(list(torch._foreach_norm(_wide(tensors))))


@torch.no_grad()
def project(
    gradients: Sequence[Tensor], differences: Sequence[Tensor], omega: Tensor
) -> tuple[Tensor, Tensor]:
    """Change gradients in place where a step along them would lead away from the anchor.

    With Delta = theta - anchor, and g . Delta < 0 (a descent step would grow Delta)::

        g <- g - omega (g . Delta) / (|Delta|^2 + 1e-8) Delta

    With omega = 1 nothing of the step is left along Delta.

    Args:
        gradients: P tensors.
        differences: P tensors, Delta.
        omega: strength for each tensor, [P], in [0, 1].

    Returns:
        The coefficients (g . Delta) / (|Delta|^2 + 1e-8), [P], and where there was a
        conflict, [P] bool.
    """
    along = dots(gradients, differences)
    coefficient = along / (norms(differences).square() + _EPSILON)
    conflict = along < 0
    taken = torch.where(conflict, omega * coefficient, 0.0)
    torch._foreach_sub_(list(gradients), torch._foreach_mul(list(differences), taken.unbind()))
    return coefficient, conflict


class GradientProjection:
    """The recursion of DiGraP (arXiv 2502.15895, ICLR 2025) over the steps of an experience.

    The strength omega of each tensor is learnt: its hyper-gradient is the cosine h of the
    present gradient and the part c that was found along Delta a step before, and omega goes
    against Adam's step for h::

        step 1:  omega = 0
        later:   omega <- clip(omega - mu AdamStep(h), 0, 1),  h = cos(g_t, c_{t-1})

    after which :func:`project` is applied. Each step calls a constant number of
    ``torch._foreach`` operations, whatever the number of tensors, and does not wait for the
    device. Memory: one copy of the weights (Delta of the step before) beside the anchors, and
    about two more while the step runs.

    Args:
        mu: learning rate of omega; 0 leaves gradients as they are.

    Raises:
        TypeError, ValueError: for a bad ``mu``.
    """

    def __init__(self, mu: float = 0.5) -> None:
        self.mu = check_amount("mu", mu)
        self.steps = 0
        self.omega: Tensor | None = None
        self._mean: Tensor | None = None
        self._square: Tensor | None = None
        self._coefficient: Tensor | None = None
        self._differences: list[Tensor] | None = None
        self._rows: tuple[list[int], Tensor] | None = None

    def reset(self) -> None:
        """Begin an experience: omega and its moments are forgotten."""
        self.steps = 0
        self.omega = self._mean = self._square = self._coefficient = self._differences = None
        self._rows = None

    @torch.no_grad()
    def step(self, weights: Sequence[Tensor], anchors: Sequence[Tensor]) -> dict[str, Tensor]:
        """Change ``weights``' gradients in place; call it before the optimizer's step.

        A tensor without gradient takes no part in the step, and its omega stays.

        Args:
            weights: P parameters, the same at each step.
            anchors: their anchors.

        Returns:
            Scalars to look at: mean ``omega``, and ``conflict``, the share of tensors whose
            gradient pointed away.
        """
        differences = torch._foreach_sub(list(weights), list(anchors))
        live = [k for k, w in enumerate(weights) if w.grad is not None]
        if not live:
            return {}
        if self.omega is None:
            kind = torch.float64 if weights[0].dtype == torch.float64 else torch.float32
            self.omega = torch.zeros(len(weights), dtype=kind, device=weights[0].device)
            self._mean, self._square, self._coefficient = (
                torch.zeros_like(self.omega) for _ in range(3)
            )
        gradients = [g for w in weights if (g := w.grad) is not None]
        rows = None if len(live) == len(weights) else self._index(live)
        if self._differences is not None:
            self._learn(gradients, [self._differences[k] for k in live], rows)
        self.steps += 1
        coefficient, conflict = project(
            gradients, [differences[k] for k in live], _some(self.omega, rows)
        )
        self._coefficient = _changed(torch.zeros_like(self.omega), rows, coefficient)
        self._differences = list(differences)
        return {"omega": self.omega.mean(), "conflict": conflict.to(self.omega.dtype).mean()}

    def _index(self, live: list[int]) -> Tensor:
        """``live`` on the device; copied there when it changes, not in each step."""
        assert self.omega is not None
        if self._rows is None or self._rows[0] != live:
            self._rows = live, torch.tensor(live).to(self.omega.device)
        return self._rows[1]

    def _learn(
        self, gradients: Sequence[Tensor], before: Sequence[Tensor], rows: Tensor | None
    ) -> None:
        """One Adam step of omega against the cosine of g_t with c_{t-1}."""
        omega, old_mean, old_square, coefficient = (
            _some(v, rows) for v in (self.omega, self._mean, self._square, self._coefficient)
        )
        found = norms(before) * coefficient.abs()  # |c|
        size = norms(gradients).clamp_min(_EPSILON) * found.clamp_min(_EPSILON)
        cosine = dots(gradients, before) * coefficient / size
        mean = _BETAS[0] * old_mean + (1 - _BETAS[0]) * cosine
        square = _BETAS[1] * old_square + (1 - _BETAS[1]) * cosine.square()
        first, second = 1 - _BETAS[0] ** self.steps, 1 - _BETAS[1] ** self.steps
        direction = (mean / first) / ((square / second).sqrt() + _EPSILON)
        omega = (omega - self.mu * direction).clamp(0, 1)
        self.omega = _changed(self.omega, rows, omega)
        self._mean = _changed(self._mean, rows, mean)
        self._square = _changed(self._square, rows, square)

    def state_dict(self) -> dict[str, Any]:
        """All that the next step needs."""
        return {
            "steps": self.steps,
            "omega": self.omega,
            "mean": self._mean,
            "square": self._square,
            "coefficient": self._coefficient,
            "differences": self._differences,
        }

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Take over ``state``, its tensors on ``device``."""

        def here(value: Tensor | None) -> Tensor | None:
            return None if value is None else value.detach().clone().to(device)

        self.steps = int(state["steps"])
        self.omega, self._mean, self._square, self._coefficient = (
            here(state[name]) for name in ("omega", "mean", "square", "coefficient")
        )
        rows = state["differences"]
        self._differences = None if rows is None else [row.to(device) for row in rows]


def _some(vector: Tensor | None, rows: Tensor | None) -> Tensor:
    assert vector is not None
    return vector if rows is None else vector[rows]


def _changed(vector: Tensor | None, rows: Tensor | None, new: Tensor) -> Tensor:
    assert vector is not None
    return new if rows is None else vector.index_copy(0, rows, new)
