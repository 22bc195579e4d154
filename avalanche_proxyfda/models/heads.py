"""Combines an image tower with one head a task."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from avalanche.models.dynamic_modules import MultiTaskModule
from torch import Tensor, nn
from torch.nn import functional as F

from avalanche_proxyfda._checks import check_count, named_kind
from avalanche_proxyfda.models.task_labels import tasks_in
from avalanche_proxyfda.models.text_head import TextHead
from avalanche_proxyfda.models.text_tower import TextTower
from avalanche_proxyfda.models.trained_texts import ABSENT, TrainedTextHead, text_of


class _HeadsByTask(MultiTaskModule):  # type: ignore[misc]  # Avalanche is not typed
    """One head a task; all heads exist from the start, and none grows."""

    def __init__(self, heads: Sequence[nn.Module], sizes: Sequence[int]) -> None:
        super().__init__()
        self.heads = nn.ModuleList(heads)
        self._widest = max(sizes, default=0)

    def forward(self, x: Tensor, task_labels: Tensor | int) -> Tensor:
        """Return logits [B, C] of embeddings [B, D].

        C is the task's number of classes. In a batch of several tasks, C is the largest number
        of classes of any task, and classes that a sample's task lacks have the logit -10 000.

        Args:
            x: [B, D].
            task_labels: task of each sample, [B], or one task for all.
        """
        tasks = tasks_in(task_labels)
        if len(tasks) == 1:
            return self.forward_single_task(x, tasks[0])
        mixed = x.new_full((len(x), self._widest), ABSENT)
        for task in tasks:
            rows = task_labels == task
            logits = self.forward_single_task(x[rows], task)
            mixed[rows, : logits.shape[1]] = logits.to(mixed.dtype)
        return mixed

    def forward_single_task(self, x: Tensor, task_label: int) -> Tensor:
        """Return logits [B, C] of embeddings [B, D] for one task's classes."""
        logits: Tensor = self.heads[task_label](x)
        return logits


class UnitHeads(_HeadsByTask):
    """One linear head a task, on L2-normalised embeddings.

    A linear probe has the same form, so its weights can be copied into a head.

    Args:
        dim: D, width of the embeddings.
        classes: number of classes of each task, in order of task label.

    Raises:
        TypeError, ValueError: for a number of classes that is no int >= 1.

    Example:
        >>> import torch
        >>> from avalanche_proxyfda.models import UnitHeads
        >>> heads = UnitHeads(8, [3, 5])
        >>> heads(torch.zeros(2, 8), 0).shape, heads(torch.zeros(2, 8), torch.tensor([0, 1])).shape
        (torch.Size([2, 3]), torch.Size([2, 5]))
    """

    def __init__(self, dim: int, classes: Sequence[int]) -> None:
        sizes = [check_count("classes", c, 1) for c in classes]
        super().__init__([nn.Linear(dim, c) for c in sizes], sizes)

    def forward_single_task(self, x: Tensor, task_label: int) -> Tensor:
        """Return logits [B, C] of embeddings [B, D] for one task's classes."""
        return super().forward_single_task(F.normalize(x, dim=-1), task_label)


class TextHeads(_HeadsByTask):
    """One zero-shot head a task, without trainable parameters.

    Args:
        heads: heads in order of task label; fixed ones, or heads of one trained text tower.

    Raises:
        ValueError: if the heads have different text towers.

    Example:
        >>> import torch
        >>> from avalanche_proxyfda.models import TextHead, TextHeads
        >>> shapes, letters = TextHead(torch.eye(4)[:2]), TextHead(torch.eye(4)[1:])
        >>> heads = TextHeads([shapes, letters])
        >>> heads(torch.tensor([[0.0, 3.0, 0.0, 0.0]]), 0)
        tensor([[  0., 100.]])
        >>> heads(torch.tensor([[0.0, 3.0, 0.0, 0.0]]), 1)
        tensor([[100.,   0.,   0.]])
    """

    def __init__(self, heads: Sequence[TextHead | TrainedTextHead]) -> None:
        super().__init__(heads, [head.classes for head in heads])
        text_of(heads)

    @property
    def text(self) -> TextTower | None:
        """The trained text tower of the heads; None for fixed heads."""
        return text_of(self.heads)


class TaskHeads(MultiTaskModule):  # type: ignore[misc]
    """A tower with one head a task; the tower runs once a batch.

    Heads of a trained text tower add that tower as the submodule ``text``.

    Args:
        tower: maps images [B, ...] to embeddings [B, D].
        dim: D.
        classes: number of classes of each task, in order of task label.
        head: heads of all tasks; None builds :class:`UnitHeads`.

    Example:
        >>> import torch
        >>> from avalanche_proxyfda.models import TaskHeads
        >>> tower = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 8 * 8, 16))
        >>> model = TaskHeads(tower, dim=16, classes=[3, 5])
        >>> images = torch.zeros(2, 3, 8, 8)
        >>> model(images, 0).shape, model(images, 1).shape
        (torch.Size([2, 3]), torch.Size([2, 5]))
    """

    def __init__(
        self,
        tower: nn.Module,
        dim: int,
        classes: Sequence[int],
        head: UnitHeads | TextHeads | None = None,
    ) -> None:
        super().__init__()
        text = head.text if isinstance(head, TextHeads) else None
        if text is not None:
            self.text = text
        self.tower = tower
        self.head = UnitHeads(dim, classes) if head is None else head

    def forward(self, x: Tensor, task_labels: Tensor | int) -> Tensor:
        """Return logits [B, C]; C is the task's number of classes.

        In a batch of several tasks, C is the largest number of classes of any task.
        """
        logits: Tensor = self.head(self.tower(x), task_labels)
        return logits

    def forward_single_task(self, x: Tensor, task_label: int) -> Tensor:
        """Return logits [B, C] of one task's classes."""
        return self.forward(x, task_label)

    @torch.no_grad()
    def set_head(self, task: int, weight: Tensor, bias: Tensor) -> None:
        """Copy the weights of a fitted linear probe into the head of ``task``.

        Args:
            task: label of the task.
            weight: [C, D].
            bias: [C].

        Raises:
            ValueError: when the head is not linear, or ``weight`` has another shape than the
                head's weight.
        """
        head = self.head.heads[task]
        if not isinstance(head, nn.Linear):
            raise ValueError(
                f"the head of task {task} is {named_kind(head)}, and weights are set in a "
                "torch.nn.Linear: build the model with linear heads"
            )
        if weight.shape != head.weight.shape:
            raise ValueError(
                f"weight has shape {tuple(weight.shape)}, the head of task {task} has "
                f"{tuple(head.weight.shape)}: give a row for each class of the head"
            )
        head.weight.copy_(weight)
        head.bias.copy_(bias)
