"""Class prototypes: normalised class means of the teacher's features."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence, Sized
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import Dataset

from avalanche_proxyfda._labelled import label_tensor
from avalanche_proxyfda._tensors import full_precision, unit_rows
from avalanche_proxyfda.features.passes import feature_batches


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
    """Compute one prototype a class in one pass over ``dataset``.

    A prototype is the normalised sum of the class's normalised features. The pass is that of
    :func:`~avalanche_proxyfda.features.passes.all_batches`.

    Args:
        dataset: N items whose first entry is an image, with the evaluation transform.
        labels: label of each item, [N] integers of any values, in the data set's order.
        features: maps images on ``device`` to features [B, D]; called without gradient.
        device: device that receives the images.
        batch_size: samples in a batch.
        num_workers: worker processes of the loader.
        collate_fn: joins samples to a batch; None takes torch's default.

    Returns:
        [C, D] float32 on the CPU, unit rows, in ascending order of label.

    Raises:
        ValueError: when ``dataset`` is empty, ``labels`` are not N integers, ``features`` returns
            another shape than [B, D], or a feature is NaN or infinite.

    Example:
        >>> import torch
        >>> from torch.utils.data import TensorDataset
        >>> from avalanche_proxyfda import class_prototypes
        >>> images = TensorDataset(torch.tensor([[3.0, 0.0], [0.0, 4.0], [5.0, 0.0]]))
        >>> labels = [7, 7, 2]  # the first row of the result is class 2
        >>> class_prototypes(images, labels, torch.nn.Identity(), torch.device("cpu"))
        tensor([[1.0000, 0.0000],
                [0.7071, 0.7071]])
    """
    count = len(cast(Sized, dataset))
    if count == 0:
        raise ValueError("dataset is empty; class prototypes need at least one sample")
    numbers = label_tensor(labels)
    if len(numbers) != count:
        raise ValueError(
            f"labels has {len(numbers)} entries, and dataset {count} items: give the label of each "
            "item, in the data set's order"
        )
    classes = torch.unique(numbers).to(device)
    class_of = torch.searchsorted(classes, numbers.to(device))
    batches = feature_batches(
        dataset, features, device, batch_size, num_workers, collate_fn, "class prototypes"
    )
    sums = _class_sums(batches, class_of, len(classes))
    if not bool(sums.isfinite().all()):
        raise ValueError(
            "the teacher's features of the training data hold NaN or Inf; check the model's "
            "weights and the images"
        )
    return unit_rows(sums).float().cpu()


def _class_sums(batches: Iterable[Tensor], class_of: Tensor, classes: int) -> Tensor:
    """Return the sum of each class's normalised features, [C, D]."""
    numbers = torch.arange(classes, device=class_of.device)
    sums: Tensor | None = None
    count, remedy = 0, f" for {len(class_of)} images: it must return one row an image"
    for rows in batches:
        if rows.ndim != 2 or rows.shape[1] == 0:
            raise ValueError(
                f"features returned the shape {tuple(rows.shape)}; expected [B, D]: pool tokens or "
                "feature maps to one vector an image first"
            )
        members = class_of[count : count + len(rows)]
        count += len(rows)
        if count > len(class_of):
            raise ValueError(f"features returned {count} rows or more{remedy}")
        rows = unit_rows(full_precision(rows))
        # one_hot waits for some devices, to check its input
        member = (members[:, None] == numbers).to(rows.dtype)
        part = member.T @ rows  # index_add_ is not deterministic on CUDA
        sums = part if sums is None else sums + part
    if sums is None or count < len(class_of):
        raise ValueError(f"features returned {count} rows{remedy}")
    return sums
