"""One pass over a data set, which neither changes the global random streams nor depends on them.

Random transforms draw from streams of the pass, so the same views come when a resume repeats it.
Between two batches the global streams and the gradient mode are those of the caller: a caller that
stops in the middle of a pass, or fails, leaves nothing behind.
A pass does not wait for an accelerator. Its batches come in pinned memory, their images are sent
without waiting, and :func:`on_host` copies features in blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate
from tqdm import tqdm

from avalanche_proxyfda._accelerator import pins_memory
from avalanche_proxyfda._random import OwnStreams, generator, mixed_seed
from avalanche_proxyfda._tensors import kept

BLOCK = 2**26
"""Bytes of features that a pass collects on an accelerator before it copies them: 64 MiB."""


def sent(images: Tensor, device: torch.device) -> Tensor:
    """Return a batch on ``device``; a batch in pinned memory is sent without waiting."""
    return images.to(device, non_blocking=images.is_pinned())


class BatchesInTurn(Dataset[Any]):
    """The batches of several data sets, one data set after the other, for one loader.

    A loader of its own for each data set would start its worker processes anew. Each batch is
    that of such a loader: it has samples of one data set, in their order.

    Args:
        sets: data sets with a length, each with its collate function; None takes torch's default.
        batch_size: samples in a batch.

    Attributes:
        places: for each batch, the number of its data set and of its first sample.

    Example:
        >>> import torch
        >>> from avalanche_proxyfda.features.passes import BatchesInTurn
        >>> sets = [torch.utils.data.TensorDataset(torch.arange(n)) for n in (3, 1)]
        >>> batches = BatchesInTurn([(data, None) for data in sets], batch_size=2)
        >>> loader = batches.loader(torch.device("cpu"), about="example")
        >>> [(number, batch[0].tolist()) for batch, (number, _) in zip(loader, batches.places)]
        [(0, [0, 1]), (0, [2]), (1, [0])]
    """

    def __init__(
        self,
        sets: Sequence[tuple[Any, Callable[[list[Any]], Any] | None]],
        batch_size: int,
    ) -> None:
        self.sets, self.batch_size = list(sets), batch_size
        self.places = [
            (number, first)
            for number, (data, _) in enumerate(self.sets)
            for first in range(0, len(data), batch_size)
        ]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, place: int) -> Any:
        """Return one collated batch."""
        number, first = self.places[place]
        data, collate = self.sets[number]
        rows = list(range(first, min(first + self.batch_size, len(data))))
        several = getattr(data, "__getitems__", None)  # as torch's loaders ask for samples
        items = [data[row] for row in rows] if several is None else several(rows)
        return (collate or default_collate)(items)

    def loader(self, device: torch.device, about: str, num_workers: int = 0) -> DataLoader[Any]:
        """Return a loader of all batches, in pinned memory if ``device`` is an accelerator.

        Args:
            device: device of the forwards.
            about: names the random streams of the worker processes.
            num_workers: worker processes.
        """
        return DataLoader(
            self,
            batch_size=None,  # an item is a batch
            num_workers=num_workers,
            collate_fn=_as_it_is,
            generator=generator(about),
            pin_memory=pins_memory(device),
        )


def _as_it_is(batch: Any) -> Any:
    return batch


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
        block.append(kept(rows))
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
) -> Iterator[Any]:
    """Iterate over a data set in its order, without gradient.

    A progress bar appears if the pass takes over five seconds. The random streams of torch (on
    the CPU and on ``device``), NumPy and Python are those of the pass while a batch is loaded.

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
    return _computed(
        lambda batch: batch, dataset, device, batch_size, num_workers, collate_fn, about
    )


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
    return _computed(
        lambda batch: features(sent(batch[0], device)),
        dataset,
        device,
        batch_size,
        num_workers,
        collate_fn,
        about,
    )


def _computed(
    value_of: Callable[[Any], Any],
    dataset: Dataset[Any],
    device: torch.device,
    batch_size: int,
    num_workers: int,
    collate_fn: Callable[[list[Any]], Any] | None,
    about: str,
) -> Iterator[Any]:
    """Yield ``value_of`` of each batch, computed without gradient, by the streams of the pass."""
    loader = DataLoader(
        dataset,
        batch_size=batch_size,
        num_workers=num_workers,
        collate_fn=collate_fn,
        generator=generator(about),
        pin_memory=pins_memory(device),
    )
    streams = OwnStreams(mixed_seed("pass", about), device)
    batches: Iterator[Any] | None = None
    with tqdm(loader, desc=about, delay=5, leave=False) as bar:
        while True:
            with streams.drawn(), torch.no_grad():  # left before the yield
                batches = iter(bar) if batches is None else batches
                try:
                    value = value_of(next(batches))
                except StopIteration:
                    return
            yield value
