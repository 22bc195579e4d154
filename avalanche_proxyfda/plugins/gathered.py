"""Terms over all micro-batches of an optimizer step, handed to each in its turn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from avalanche_proxyfda.losses.neighbors import full_precision
from avalanche_proxyfda.plugins.reference import Terms

GraphFrom = Literal["micro-batch", "accumulated"]
_FAR = 0.02  # bf16 keeps 8 bits, and kernels of a GPU may add in another order


class _Known(torch.autograd.Function):
    """A value whose gradients are known: no graph behind it is kept."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, slopes: Sequence[Tensor | None], *_: Tensor) -> Tensor:
        ctx.slopes = slopes
        return value.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return (None, None, *(None if s is None else grad * s for s in ctx.slopes))


class GatheredTerms:
    """The chain rule in two parts, as in GradCache (Gao et al., 2021).

    Rows of all micro-batches are gathered without their graphs; the terms are computed once,
    with their slopes by rows and by the method's own parameters. Then each micro-batch, whose
    forward runs again with gradient, takes the terms' values and its part of the slopes. The
    sum over the step is the gradient of the terms of one big batch.
    """

    def __init__(self) -> None:
        self._students: list[Tensor] = []
        self._teachers: list[Tensor] = []
        self._terms: dict[str, tuple[float, Tensor, list[Tensor | None]]] = {}
        self._at = -1  # micro-batches taken; -1 while there is nothing to take
        self._rows = 0
        self._checked = False

    @property
    def ready(self) -> bool:
        """Whether there is a micro-batch whose part was not taken yet."""
        return self._at >= 0

    def add(self, student: Tensor, teacher: Tensor) -> None:
        """Keep the rows of one micro-batch: student [b, D], teacher [b, D'].

        What an earlier step may have left, when it was broken off, is dropped.
        """
        if self.ready:
            self._reset()
        self._students.append(full_precision(student.detach()))
        self._teachers.append(teacher.detach())

    def _reset(self) -> None:
        self._students, self._teachers, self._terms = [], [], {}
        self._at, self._rows = -1, 0

    def solve(
        self,
        terms: Callable[[Tensor, Tensor], Terms],
        learned: Callable[[], Sequence[nn.Parameter]],
    ) -> None:
        """Compute the terms of all rows and their slopes.

        Args:
            terms: of student [N, D] and teacher [N, D'].
            learned: parameters that they reach; asked for after ``terms``, which may make them.
        """
        rows = torch.cat(self._students).requires_grad_()
        with torch.enable_grad():
            made = terms(rows, torch.cat(self._teachers))
        reached = [rows, *learned()]
        for name, (coefficient, value) in made.items():
            slopes: Sequence[Tensor | None] = [None] * len(reached)
            if value.requires_grad:
                # terms may share a part of their graph
                slopes = torch.autograd.grad(value, reached, retain_graph=True, allow_unused=True)
            self._terms[name] = coefficient, value.detach(), list(slopes)
        self._teachers, self._at, self._rows = [], 0, 0

    def take(self, rows: Tensor, learned: Sequence[nn.Parameter], share: float) -> Terms:
        """The terms, with the gradient of the next micro-batch.

        Args:
            rows: its embeddings, [b, D], with their graph.
            learned: the parameters that ``solve`` asked for.
            share: that the strategy will multiply the micro-batch's loss by.

        Raises:
            ValueError: when the rows of the first step are not those that were gathered.
        """
        seen, start = self._students[self._at], self._rows
        if not self._checked:
            self._check(rows.detach(), seen)
        terms: Terms = {}
        for name, (coefficient, value, (slope, *others)) in self._terms.items():
            # the rows' part is this micro-batch's alone; the parameters' is shared among all
            part = None if slope is None else slope[start : start + len(rows)] / share
            known: Tensor = _Known.apply(value, [part, *others], full_precision(rows), *learned)
            terms[name] = coefficient, known
        self._at, self._rows = self._at + 1, start + len(rows)
        if self._at == len(self._students):
            self._reset()
            self._checked = True
        return terms

    def _check(self, rows: Tensor, seen: Tensor) -> None:
        same = rows.shape == seen.shape
        if not same or (full_precision(rows) - seen).norm() > _FAR * seen.norm():
            raise ValueError(
                "graph_from='accumulated': a micro-batch's features came out otherwise when its "
                "forward ran again. Something draws random numbers beside torch's, or changes the "
                "batch or the model within the step (mix-up in a plugin, for example): take "
                "graph_from='micro-batch'"
            )
