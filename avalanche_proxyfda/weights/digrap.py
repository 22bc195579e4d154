"""DiGraP: removes the part of a gradient that leads away from the anchor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from avalanche_proxyfda._checks import check_number_on_weights
from avalanche_proxyfda._tensors import dots, norms

_EPSILON = 1e-8
_BETAS = (0.9, 0.999)


@torch.no_grad()
def project(
    gradients: Sequence[Tensor], differences: Sequence[Tensor], omega: Tensor
) -> tuple[Tensor, Tensor]:
    """Project, in place, those gradients whose descent step leads away from the anchor.

    With Delta = theta - anchor, a descent step leads away if g . Delta < 0. Such a gradient
    becomes::

        g <- g - omega (g . Delta) / |Delta|^2 Delta

    With omega = 1, the step has no component along Delta. A gradient stays as it is where
    |Delta|^2 is zero.

    Args:
        gradients: P tensors g.
        differences: P tensors Delta.
        omega: strength of the projection for each tensor, [P], in [0, 1].

    Returns:
        The coefficients (g . Delta) / (|Delta|^2 + 1e-8) of c, which the next step needs, [P],
        and a mask of the projected gradients, [P] bool.

    Example:
        >>> import torch
        >>> from avalanche_proxyfda.weights.digrap import project
        >>> gradient = torch.tensor([-1.0, 1.0])
        >>> _, conflict = project([gradient], [torch.tensor([2.0, 0.0])], torch.ones(1))
        >>> conflict, gradient
        (tensor([True]), tensor([0., 1.]))
    """
    along, square = dots(gradients, differences), norms(differences).square()
    conflict = (along < 0) & (square > 0)
    factor = torch.where(conflict, omega * (along / square), 0.0)
    torch._foreach_sub_(list(gradients), torch._foreach_mul(list(differences), factor.unbind()))
    return along / (square + _EPSILON), conflict


class GradientProjection:
    """The recursion of DiGraP (arXiv 2502.15895, ICLR 2025) over the steps of an experience.

    DiGraP learns the strength omega of each tensor's projection. The hyper-gradient of omega is
    the cosine h between the present gradient g_t and c_{t-1}, the component along Delta of the
    previous gradient. Adam's update rule turns h into a step::

        t = 1:   omega = 0
        later:   omega <- clip(omega - mu AdamStep(h, t), 0, 1),  h = cos(g_t, c_{t-1})

    As in the authors' code, t counts the steps of training, so Adam's bias correction has t = 2
    at the first update of omega. Then :func:`project` changes the gradients. A step calls a
    constant number of ``torch._foreach`` operations for any number of tensors, and does not
    synchronise the device. It stores one copy of the weights (the previous Delta) beside the
    anchors, and about two more copies while it runs.

    Args:
        mu: learning rate of omega; with 0, gradients stay as they are.

    Attributes:
        steps: number of steps since :meth:`reset`.
        omega: [P] strengths, or None before the first step.

    Raises:
        TypeError, ValueError: for a ``mu`` that is no finite number >= 0.

    Example:
        >>> import torch
        >>> from avalanche_proxyfda.weights import GradientProjection
        >>> weight, anchor = torch.nn.Parameter(torch.ones(1)), torch.zeros(1)
        >>> projection = GradientProjection(mu=0.5)
        >>> for gradient in (1.0, -1.0):  # towards the anchor, then away from it
        ...     weight.grad = torch.tensor([gradient])
        ...     scalars = projection.step([weight], [anchor])
        >>> round(float(scalars["omega"]), 3), round(float(weight.grad), 3)  # -1 + omega
        (0.372, -0.628)
    """

    def __init__(self, mu: float = 0.5) -> None:
        self.mu = check_number_on_weights("mu", mu)
        self.steps = 0
        self.omega: Tensor | None = None
        self._mean: Tensor | None = None
        self._square: Tensor | None = None
        self._coefficient: Tensor | None = None
        self._differences: list[Tensor] | None = None
        self._rows: tuple[list[int], Tensor] | None = None

    def reset(self) -> None:
        """Begin an experience: drop omega and its moments."""
        self.steps = 0
        self.omega = self._mean = self._square = self._coefficient = self._differences = None
        self._rows = None

    def carry(self, weights: Sequence[Tensor], sources: Sequence[int | None]) -> None:
        """Continue the recursion with another list of weights.

        Args:
            weights: the parameters of the next steps.
            sources: place of each of them among the weights so far; None for a new one, whose
                omega begins at 0.
        """
        if self.omega is None or self._differences is None:
            return
        known = [k for k, source in enumerate(sources) if source is not None]
        old = [source for source in sources if source is not None]

        def moved(vector: Tensor | None) -> Tensor:
            assert vector is not None
            rows = torch.zeros(len(weights), dtype=vector.dtype, device=vector.device)
            rows[known] = vector[old]
            return rows

        self.omega, self._mean, self._square, self._coefficient = (
            moved(v) for v in (self.omega, self._mean, self._square, self._coefficient)
        )
        self._differences = [
            torch.zeros_like(weight) if source is None else self._differences[source]
            for weight, source in zip(weights, sources, strict=True)
        ]
        self._rows = None

    @torch.no_grad()
    def step(self, weights: Sequence[Tensor], anchors: Sequence[Tensor]) -> dict[str, Tensor]:
        """Project the gradients of ``weights`` in place, before the optimizer's step.

        The step skips a tensor without gradient and does not change the tensor's omega.

        Args:
            weights: P parameters, the same ones at each step; :meth:`carry` changes the list.
            anchors: anchors of ``weights``, P tensors.

        Returns:
            Scalars for the log: ``omega``, the mean over tensors, and ``conflict``, the
            fraction of gradients that were projected. Empty if no tensor has a gradient.
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
        """Return ``live`` as a tensor on the device, copied there only when it changes."""
        assert self.omega is not None
        if self._rows is None or self._rows[0] != live:
            self._rows = live, torch.tensor(live).to(self.omega.device)
        return self._rows[1]

    def _learn(
        self, gradients: Sequence[Tensor], before: Sequence[Tensor], rows: Tensor | None
    ) -> None:
        """Update omega by Adam's rule with the cosine of g_t and c_{t-1}."""
        omega, old_mean, old_square, coefficient = (
            _some(v, rows) for v in (self.omega, self._mean, self._square, self._coefficient)
        )
        component = norms(before) * coefficient.abs()  # |c|
        size = norms(gradients).clamp_min(_EPSILON) * component.clamp_min(_EPSILON)
        cosine = dots(gradients, before) * coefficient / size
        mean = _BETAS[0] * old_mean + (1 - _BETAS[0]) * cosine
        square = _BETAS[1] * old_square + (1 - _BETAS[1]) * cosine.square()
        count = self.steps + 1  # with this step
        first, second = 1 - _BETAS[0] ** count, 1 - _BETAS[1] ** count
        direction = (mean / first) / ((square / second).sqrt() + _EPSILON)
        omega = (omega - self.mu * direction).clamp(0, 1)
        self.omega = _changed(self.omega, rows, omega)
        self._mean = _changed(self._mean, rows, mean)
        self._square = _changed(self._square, rows, square)

    def state_dict(self) -> dict[str, Any]:
        """Return the state that the next step needs."""
        return {
            "steps": self.steps,
            "omega": self.omega,
            "mean": self._mean,
            "square": self._square,
            "coefficient": self._coefficient,
            "differences": self._differences,
        }

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Load ``state``, with copies of its tensors on ``device``."""

        def copied(value: Tensor | None) -> Tensor | None:
            return None if value is None else value.detach().clone().to(device)

        self.steps = int(state["steps"])
        self.omega, self._mean, self._square, self._coefficient = (
            copied(state[name]) for name in ("omega", "mean", "square", "coefficient")
        )
        rows = state["differences"]
        self._differences = None if rows is None else [row.to(device) for row in rows]


def _some(vector: Tensor | None, rows: Tensor | None) -> Tensor:
    """Return the entries ``rows`` of ``vector``, or all of them if ``rows`` is None."""
    assert vector is not None
    return vector if rows is None else vector[rows]


def _changed(vector: Tensor | None, rows: Tensor | None, new: Tensor) -> Tensor:
    """Return ``vector`` with ``new`` in the entries ``rows``, or in all if ``rows`` is None."""
    assert vector is not None
    return new if rows is None else vector.index_copy(0, rows, new)
