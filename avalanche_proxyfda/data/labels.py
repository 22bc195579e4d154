"""Classes and task labels of Avalanche's data sets."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def labels_and_tasks(data: Any) -> tuple[Tensor, Tensor]:
    """Return class and task label of each sample, int64 [N]; task 0 without task labels."""
    labels = torch.as_tensor([int(y) for y in data.targets])
    tasks = getattr(data, "targets_task_labels", None)
    if tasks is None:
        return labels, torch.zeros_like(labels)
    return labels, torch.as_tensor([int(t) for t in tasks])


def class_keys(data: Any) -> Tensor:
    """Return one integer a sample, [N]: its class, or its (task, class) with several tasks."""
    labels, tasks = labels_and_tasks(data)
    if len(set(tasks.tolist())) <= 1:
        return labels
    keys: Tensor = torch.unique(torch.stack((tasks, labels), dim=1), dim=0, return_inverse=True)[1]
    return keys


def task_classes(data: Any) -> set[tuple[int, int]]:
    """Return the (task, class) pairs of a data set."""
    labels, tasks = labels_and_tasks(data)
    return set(zip(tasks.tolist(), labels.tolist(), strict=True))
