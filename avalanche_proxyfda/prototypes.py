"""Class prototypes: normalised class means of the teacher's features."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from avalanche_proxyfda.losses.neighbors import full_precision, unit_rows
from avalanche_proxyfda.passes import feature_batches


@torch.no_grad()
def class_prototypes(
    dataset: Dataset[Any],
    labels: Sequence[int] | Tensor,
    features: Callable[[Tensor], Tensor],
    device: torch.device,
    batch_size: int = 128,
    num_workers: int = 0,
    collate_fn: Callable[[list[Any]], Any] | None = None,
) -> Tensor:
    """One pass over ``dataset``; a progress bar appears when it takes over five seconds.

    The random streams of torch, NumPy and Python are left as they were found.

    Args:
        dataset: items whose first part is an image, with the evaluation transform.
        labels: label of each item, [N], in the data set's order.
        features: images on ``device`` to features [B, D]; called without gradient.
        device: where images are sent.
        batch_size: of the loader.
        num_workers: of the loader.
        collate_fn: of the loader; None takes torch's.

    Returns:
        [C, D] float32 on the CPU, unit rows, in ascending order of label.

    Raises:
        ValueError: when a feature is NaN or infinite, or there is no item.
    """
    classes = torch.unique(torch.as_tensor(labels)).to(device)
    which = torch.searchsorted(classes, torch.as_tensor(labels).to(device))
    sums: Tensor | float = 0.0
    done = 0
    for rows in feature_batches(
        dataset, features, device, batch_size, num_workers, collate_fn, "class prototypes"
    ):
        rows = unit_rows(full_precision(rows))
        member = F.one_hot(which[done : done + len(rows)], len(classes)).to(rows.dtype)
        sums = sums + member.T @ rows  # a matrix product: index_add_ is not repeatable on CUDA
        done += len(rows)
    if not isinstance(sums, Tensor):
        raise ValueError("dataset is empty: there is nothing to take prototypes of")
    if not bool(sums.isfinite().all()):
        raise ValueError(
            "the teacher's features of the training data hold NaN or Inf: the model given, or "
            "the images, are broken"
        )
    return unit_rows(sums).float().cpu()
