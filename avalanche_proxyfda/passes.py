"""One pass of frozen features over a data set, which leaves no trace in random streams."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from avalanche_proxyfda.rng import generator, preserved_rng


def all_batches(
    dataset: Dataset[Any],
    device: torch.device,
    batch_size: int = 128,
    num_workers: int = 0,
    collate_fn: Callable[[list[Any]], Any] | None = None,
    about: str = "features",
) -> Iterator[Any]:
    """The mini-batches of a data set in its order, without gradient, see :func:`feature_batches`.

    Yields:
        what ``collate_fn`` makes, on the CPU.
    """
    loader = DataLoader(
        dataset, batch_size=batch_size, num_workers=num_workers, collate_fn=collate_fn,
        generator=generator(about),
    )  # fmt: skip
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
    """Features of a data set, batch by batch, in its order.

    A progress bar appears when it takes over five seconds. The random streams of torch, NumPy
    and Python are left as they were found.

    Args:
        dataset: items whose first part is an image, with the evaluation transform.
        features: images on ``device`` to features [B, D]; called without gradient.
        device: where images are sent.
        batch_size: of the loader.
        num_workers: of the loader.
        collate_fn: of the loader; None takes torch's.
        about: what the progress bar is called.

    Yields:
        [B, D] on ``device``.
    """
    for batch in all_batches(dataset, device, batch_size, num_workers, collate_fn, about):
        yield features(batch[0].to(device))
