"""Classes and task labels of Avalanche's data sets, with and without task labels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def labels_and_tasks(data: Any) -> tuple[Tensor, Tensor]:
    """Class and task label of each sample, [N] each; task 0 where there are no task labels."""
    labels = torch.as_tensor([int(y) for y in data.targets])
    tasks = getattr(data, "targets_task_labels", None)
    if tasks is None:
        return labels, torch.zeros_like(labels)
    return labels, torch.as_tensor([int(t) for t in tasks])


def class_keys(data: Any) -> Tensor:
    """One integer a sample, [N]: its class, or its (task, class) where labels are per task."""
    labels, tasks = labels_and_tasks(data)
    if len(set(tasks.tolist())) <= 1:
        return labels
    keys: Tensor = torch.unique(torch.stack((tasks, labels), dim=1), dim=0, return_inverse=True)[1]
    return keys


def task_classes(data: Any) -> set[tuple[int, int]]:
    """(task, class) pairs that occur."""
    labels, tasks = labels_and_tasks(data)
    return set(zip(tasks.tolist(), labels.tolist(), strict=True))
