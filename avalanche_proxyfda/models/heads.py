"""An image tower with one head for each task."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from avalanche.models.dynamic_modules import MultiTaskModule
from torch import Tensor, nn
from torch.nn import functional as F

from avalanche_proxyfda.losses.base import check_count
from avalanche_proxyfda.models.text_head import TextHead

_ABSENT = -1e4  # logit of a unit that a task does not have, in a batch of several tasks


class _HeadsByTask(MultiTaskModule):  # type: ignore[misc]  # Avalanche is not typed
    """One head a task. They exist from the start: neither training nor evaluation grows them."""

    def __init__(self, heads: Sequence[nn.Module], sizes: Sequence[int]) -> None:
        super().__init__()
        self.heads = nn.ModuleList(heads)
        self._widest = max(sizes, default=0)

    def forward(self, x: Tensor, task_labels: Tensor | int) -> Tensor:
        """Logits [B, C] of embeddings [B, D]; C is the largest task's in a mixed batch."""
        tasks = [task_labels] if isinstance(task_labels, int) else sorted(set(task_labels.tolist()))
        if len(tasks) == 1:
            return self.forward_single_task(x, tasks[0])
        mixed = x.new_full((len(x), self._widest), _ABSENT)
        for task in tasks:
            which = task_labels == task
            own = self.forward_single_task(x[which], task)
            mixed[which, : own.shape[1]] = own.to(mixed.dtype)
        return mixed

    def forward_single_task(self, x: Tensor, task_label: int) -> Tensor:
        """Logits [B, C] of one task's classes."""
        logits: Tensor = self.heads[task_label](x)
        return logits


class UnitHeads(_HeadsByTask):
    """One linear head a task on L2-normalised embeddings, as linear probes are.

    Args:
        dim: D, width of the embeddings.
        classes: number of classes of each task, in order of task label.
    """

    def __init__(self, dim: int, classes: Sequence[int]) -> None:
        sizes = [check_count("classes", c, 1) for c in classes]
        super().__init__([nn.Linear(dim, c) for c in sizes], sizes)

    def forward_single_task(self, x: Tensor, task_label: int) -> Tensor:
        """Logits [B, C] of one task's classes."""
        return super().forward_single_task(F.normalize(x, dim=-1), task_label)


class TextHeads(_HeadsByTask):
    """One zero-shot head a task; nothing in it is trained.

    Args:
        heads: in order of task label.
    """

    def __init__(self, heads: Sequence[TextHead]) -> None:
        super().__init__(heads, [len(head.weight) for head in heads])


class TaskHeads(MultiTaskModule):  # type: ignore[misc]
    """``tower`` runs once a batch; its embedding goes to each sample's task's head.

    Args:
        tower: images [B, ...] to embeddings [B, D].
        dim: D.
        classes: number of classes of each task, in order of task label.
        head: of all tasks; None makes :class:`UnitHeads`.
    """

    def __init__(
        self,
        tower: nn.Module,
        dim: int,
        classes: Sequence[int],
        head: UnitHeads | TextHeads | None = None,
    ) -> None:
        super().__init__()
        self.tower = tower
        self.head = UnitHeads(dim, classes) if head is None else head

    def forward(self, x: Tensor, task_labels: Tensor | int) -> Tensor:
        """Logits [B, C]: of the task's classes, or of the largest task's in a mixed batch."""
        logits: Tensor = self.head(self.tower(x), task_labels)
        return logits

    def forward_single_task(self, x: Tensor, task_label: int) -> Tensor:
        """Logits of one task's classes."""
        return self.forward(x, task_label)

    @torch.no_grad()
    def set_head(self, task: int, weight: Tensor, bias: Tensor) -> None:
        """Put a fitted probe into the head of ``task``: weight [C, D], bias [C].

        Raises:
            ValueError: when the shapes are not the head's.
        """
        head = self.head.heads[task]
        if not isinstance(head, nn.Linear):
            raise ValueError(f"the head of task {task} is a {type(head).__name__}, not linear")
        if weight.shape != head.weight.shape:
            raise ValueError(
                f"weight has shape {tuple(weight.shape)}, the head of task {task} has "
                f"{tuple(head.weight.shape)}"
            )
        head.weight.copy_(weight)
        head.bias.copy_(bias)
