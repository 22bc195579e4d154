"""The tasks in a batch, known to the host without a wait for the device."""

from __future__ import annotations

from torch import Tensor

_TASKS = "tasks_on_host"  # attribute of a tensor of task labels; derived tensors lack it


def note_tasks(task_labels: Tensor, on_host: Tensor) -> None:
    """Note the tasks of a batch on its task labels, so that :func:`tasks_in` need not read them.

    Args:
        task_labels: task of each sample, [B], on any device.
        on_host: the same labels on the CPU.

    Example:
        >>> import torch
        >>> from avalanche_proxyfda.models.task_labels import note_tasks, tasks_in
        >>> labels = torch.tensor([2, 0, 2])
        >>> note_tasks(labels, labels.cpu())
        >>> tasks_in(labels)
        [0, 2]
    """
    setattr(task_labels, _TASKS, sorted(set(on_host.tolist())))


def tasks_in(task_labels: Tensor | int) -> list[int]:
    """Return the tasks of a batch in ascending order.

    The host waits for labels on an accelerator, unless :func:`note_tasks` was called on them.

    Args:
        task_labels: task of each sample, [B], or one task for all.
    """
    if isinstance(task_labels, int):
        return [task_labels]
    noted: list[int] | None = getattr(task_labels, _TASKS, None)
    return sorted(set(task_labels.tolist())) if noted is None else noted
