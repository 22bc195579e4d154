"""One pass over a data set, which leaves the global random streams unchanged."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from avalanche_proxyfda._random import generator, preserved_rng


def all_batches(
    dataset: Dataset[Any],
    device: torch.device,
    batch_size: int = 128,
    num_workers: int = 0,
    collate_fn: Callable[[list[Any]], Any] | None = None,
    about: str = "features",
) -> Iterator[Any]:
    """Iterate over a data set in its order, without gradient.

    A progress bar appears if the pass takes over five seconds. The random streams of torch (on
    the CPU and on ``device``), NumPy and Python are restored after the pass.

    Args:
        dataset: any data set with a length.
        device: device whose random stream is restored.
        batch_size: samples in a batch.
        num_workers: worker processes of the loader.
        collate_fn: joins samples to a batch; None takes torch's default.
        about: label of the progress bar; it also names the loader's random stream.

    Yields:
        batches on the CPU, as ``collate_fn`` returns them.

    Example:
        >>> data = torch.utils.data.TensorDataset(torch.arange(5.0))
        >>> [batch[0].tolist() for batch in all_batches(data, torch.device("cpu"), batch_size=3)]
        [[0.0, 1.0, 2.0], [3.0, 4.0]]
    """
    loader = DataLoader(
        dataset,
        batch_size=batch_size,
        num_workers=num_workers,
        collate_fn=collate_fn,
        generator=generator(about),
    )
    with preserved_rng(device), torch.no_grad():
        yield from tqdm(loader, desc=about, delay=5, leave=False)


def feature_batches(
    dataset: Dataset[Any],
    features: Callable[[Tensor], Tensor],
    device: torch.device,
    batch_size: int = 128,
    num_workers: int = 0,
    collate_fn: Callable[[list[Any]], Any] | None = None,
    about: str = "features",
) -> Iterator[Tensor]:
    """Compute the features of a data set batch by batch, in its order.

    The pass is that of :func:`all_batches`.

    Args:
        dataset: items whose first entry is an image, with the evaluation transform.
        features: maps images on ``device`` to features [B, D]; called without gradient.
        device: device that receives the images.
        batch_size: samples in a batch.
        num_workers: worker processes of the loader.
        collate_fn: joins samples to a batch; None takes torch's default.
        about: label of the progress bar.

    Yields:
        [B, D] on ``device``.
    """
    for batch in all_batches(dataset, device, batch_size, num_workers, collate_fn, about):
        yield features(batch[0].to(device))
