"""Terms over all micro-batches of an optimizer step, split among the micro-batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from avalanche_proxyfda._tensors import full_precision
from avalanche_proxyfda.plugins.base.auto_weight import Weight
from avalanche_proxyfda.plugins.base.lifecycle import Terms

GraphFrom = Literal["micro-batch", "accumulated"]
_TOLERANCE = 0.02  # bf16 has 8 bits, and kernels of a GPU may add in another order


class _WithGradients(torch.autograd.Function):
    """Returns a value with gradients that are computed already, without the graph behind it."""

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

    :meth:`add` gathers the rows of all micro-batches without their graphs. :meth:`solve`
    computes the terms once, with their gradients by rows and by the method's own parameters.
    Each micro-batch then runs forward again with gradient, and :meth:`take` returns the terms
    with its part of the gradients. The sum over the step is the gradient of the terms of one
    big batch.
    """

    def __init__(self) -> None:
        self._students: list[Tensor] = []
        self._teachers: list[Tensor] = []
        self._terms: dict[str, tuple[Weight, Tensor, list[Tensor | None]]] = {}
        self._at = -1  # micro-batches taken; -1 before solve and after the last one
        self._rows = 0  # rows of the micro-batches taken
        self._checked = False

    @property
    def ready(self) -> bool:
        """True while a micro-batch has not taken its part."""
        return self._at >= 0

    def add(self, student: Tensor, teacher: Tensor) -> None:
        """Gather the rows of one micro-batch: student [b, D], teacher [b, D'].

        Later forwards must leave the rows alone, see :func:`~avalanche_proxyfda._tensors.kept`.
        Rows of an earlier step that an exception ended are dropped.
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
        compare: Callable[[Tensor, Tensor], Terms],
        learned: Callable[[], Sequence[nn.Parameter]],
    ) -> None:
        """Compute the terms of all rows, and their gradients.

        Args:
            compare: returns the terms of student [N, D] and teacher [N, D'].
            learned: returns the parameters that the terms reach; called after ``compare``,
                which may create them.
        """
        rows = torch.cat(self._students).requires_grad_()
        with torch.enable_grad():
            terms = compare(rows, torch.cat(self._teachers))
        inputs = [rows, *learned()]
        for name, (coefficient, value) in terms.items():
            slopes: Sequence[Tensor | None] = [None] * len(inputs)
            if value.requires_grad:
                # terms may share a part of their graph
                slopes = torch.autograd.grad(value, inputs, retain_graph=True, allow_unused=True)
            self._terms[name] = coefficient, value.detach(), list(slopes)
        self._teachers, self._at, self._rows = [], 0, 0

    def take(self, rows: Tensor, learned: Sequence[nn.Parameter], share: float) -> Terms:
        """Return the terms, with the gradient of the next micro-batch.

        Args:
            rows: embeddings of the micro-batch, [b, D], with their graph.
            learned: the parameters that ``solve`` used.
            share: factor by which the strategy multiplies the micro-batch's loss.

        Raises:
            ValueError: if the rows of the first step differ from the gathered rows.
        """
        gathered, start = self._students[self._at], self._rows
        if not self._checked:
            self._check(rows.detach(), gathered)
        terms: Terms = {}
        for name, (coefficient, value, (slope, *others)) in self._terms.items():
            # the gradient by rows belongs to this micro-batch, that by parameters to all of them
            part = None if slope is None else slope[start : start + len(rows)] / share
            inputs = (full_precision(rows), *learned)
            term: Tensor = _WithGradients.apply(value, [part, *others], *inputs)
            terms[name] = coefficient, term
        self._at, self._rows = self._at + 1, start + len(rows)
        if self._at == len(self._students):
            self._reset()
            self._checked = True
        return terms

    def _check(self, rows: Tensor, gathered: Tensor) -> None:
        same = rows.shape == gathered.shape
        if not same or (full_precision(rows) - gathered).norm() > _TOLERANCE * gathered.norm():
            raise ValueError(
                "graph_from='accumulated': a micro-batch's features came out otherwise when its "
                "forward ran again. Something draws random numbers beside torch's, or changes the "
                "batch or the model within the step (mix-up in a plugin, for example): take "
                "graph_from='micro-batch'"
            )
