"""One pass over a data set, which neither changes the global random streams nor depends on them.

Random transforms draw from streams of the pass, so the same views come when a resume repeats it.
A pass does not wait for an accelerator. Its batches come in pinned memory, their images are sent
without waiting, and :func:`on_host` copies features in blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from avalanche_proxyfda._accelerator import pins_memory
from avalanche_proxyfda._random import generator, mixed_seed, seeded

BLOCK = 2**26
"""Bytes of features that a pass collects on an accelerator before it copies them: 64 MiB."""


def sent(images: Tensor, device: torch.device) -> Tensor:
    """Return a batch on ``device``; a batch in pinned memory is sent without waiting."""
    return images.to(device, non_blocking=images.is_pinned())


def on_host(batches: Iterable[Tensor]) -> Tensor:
    """Join batches [B, ...] of one device to a tensor [N, ...] on the CPU.

    The host waits for an accelerator once for each block of ``BLOCK`` bytes, so a smaller data
    set is copied once, and the accelerator holds one block.

    Example:
        >>> import torch
        >>> from avalanche_proxyfda.features.passes import on_host
        >>> on_host(iter([torch.zeros(2, 3), torch.ones(1, 3)])).shape
        torch.Size([3, 3])
    """
    blocks: list[Tensor] = []
    block: list[Tensor] = []
    for rows in batches:
        block.append(rows)
        if sum(part.numel() * part.element_size() for part in block) >= BLOCK:
            blocks.append(torch.cat(block).cpu())
            block = []
    if block:
        blocks.append(torch.cat(block).cpu())
    return blocks[0] if len(blocks) == 1 else torch.cat(blocks)


def all_batches(
    dataset: Dataset[Any],
    device: torch.device,
    batch_size: int = 128,
    num_workers: int = 0,
    collate_fn: Callable[[list[Any]], Any] | None = None,
    about: str = "features",
) -> Generator[Any, None, None]:
    """Iterate over a data set in its order, without gradient.

    A progress bar appears if the pass takes over five seconds. The random streams of torch (on
    the CPU and on ``device``), NumPy and Python are restored after the pass. A caller that may
    leave the loop early, by an exception too, closes the iterator (``contextlib.closing``):
    gradient and streams would otherwise come back at a later moment.

    Args:
        dataset: any data set with a length.
        device: device whose random stream is restored.
        batch_size: samples in a batch.
        num_workers: worker processes of the loader.
        collate_fn: joins samples to a batch; None takes torch's default.
        about: label of the progress bar; it also names the random streams.

    Yields:
        batches on the CPU, as ``collate_fn`` returns them; for an accelerator they are in
        pinned memory.

    Example:
        >>> import torch
        >>> from avalanche_proxyfda.features.passes import all_batches
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
        pin_memory=pins_memory(device),
    )
    with seeded(mixed_seed("pass", about), device), torch.no_grad():
        yield from tqdm(loader, desc=about, delay=5, leave=False)


def feature_batches(
    dataset: Dataset[Any],
    features: Callable[[Tensor], Tensor],
    device: torch.device,
    batch_size: int = 128,
    num_workers: int = 0,
    collate_fn: Callable[[list[Any]], Any] | None = None,
    about: str = "features",
) -> Generator[Tensor, None, None]:
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
    batches = all_batches(dataset, device, batch_size, num_workers, collate_fn, about)
    with closing(batches):
        for batch in batches:
            yield features(sent(batch[0], device))
