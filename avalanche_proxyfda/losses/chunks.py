"""Sums over the queries of a batch, computed one chunk of queries at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from avalanche_proxyfda._accelerator import total_memory
from avalanche_proxyfda._checks import check_count

Sums = tuple[Tensor, ...]
ChunkSize = int | Literal["auto"]

_SAVED_WHOLE = 5 * 2**18  # numbers; a smaller batch is saved whole, faster than recomputing
_CACHE_BLOCK = 8 * 2**20  # bytes; suits the caches of a CPU, where smaller chunks cost no launches
_MEMORY_SHARE = 256  # a chunk's largest tensor takes this part of an accelerator's memory


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def on_accelerator(device: torch.device) -> bool:
    """Return True for a device where launches cost more than memory: not the CPU, not meta."""
    return total_memory(device) is not None


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def block_bytes(device: torch.device) -> int:
    """Return the largest size of one tensor of a chunk, in bytes.

    A CPU works fastest on chunks that fit its caches, so it gets 8 MiB. An accelerator works
    fastest on few large kernels, so it gets 1/256 of its memory (320 MiB of 80 GiB), and at
    least 8 MiB.

    Args:
        device: the device of the batch.

    Example:
        >>> import torch
        >>> from avalanche_proxyfda.losses.chunks import block_bytes
        >>> block_bytes(torch.device("cpu"))
        8388608
    """
    memory = total_memory(device)
    return _CACHE_BLOCK if memory is None else max(_CACHE_BLOCK, memory // _MEMORY_SHARE)


def sum_over_queries(
    part: Callable[..., Sums], batch: int, chunk_size: ChunkSize, numbers: int, *inputs: Tensor
) -> Sums:
    """Sum ``part(first, last, *inputs)`` over chunks first:last of a batch's queries.

    Only ``inputs``, which all chunks share, are saved between forward and backward. Backward
    computes the tensors of one chunk again, and frees them before the next chunk.

    Args:
        part: returns scalars, summed over the queries from ``first`` to before ``last``.
        batch: B, the number of queries, at least 1.
        chunk_size: queries in a chunk. ``"auto"`` limits the largest tensor of a chunk to
            :func:`block_bytes` (but takes at least one query), and saves a small batch whole.
            On an accelerator it saves every batch of one chunk whole, which launches a third
            fewer operations.
        numbers: entries that one query adds to the largest tensor within ``part``.
        inputs: tensors of the batch that ``part`` reads.

    Returns:
        The scalars of ``part``, summed over the batch.
    """
    if chunk_size != "auto":
        size = chunk_size
    elif batch * numbers <= _SAVED_WHOLE:
        return part(0, batch, *inputs)
    else:
        device = inputs[0].device
        size = max(1, block_bytes(device) // (inputs[0].element_size() * numbers))
        if size >= batch and on_accelerator(device):
            return part(0, batch, *inputs)
    total: Sums = ()
    for first in range(0, batch, size):
        last = min(first + size, batch)
        sums: Sums = checkpoint(
            part, first, last, *inputs, use_reentrant=False, preserve_rng_state=False
        )
        total = tuple(t + s for t, s in zip(total, sums, strict=True)) if total else sums
    return total


def check_chunk_size(value: ChunkSize) -> ChunkSize:
    """Return a chunk size.

    Raises:
        TypeError, ValueError: for a value other than "auto" or an int >= 1.
    """
    if isinstance(value, str):
        if value != "auto":
            raise ValueError(f'chunk_size={value!r} is unknown; pass "auto" or a number of queries')
        return value
    return check_count("chunk_size", value, 1)
